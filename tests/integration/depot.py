"""A depot's program at schema version 3, and the log that its version 1 left behind.

Version 1 knew: ParcelBooked(customer, weight="12.5 kg"), ParcelMoved(to), ParcelPacked(items,
closed) and ParcelLookedAt(by). `tests/data/depot_v1.jsonl` is what it recorded: never to be made
again by later code.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from eventstore.client.client import Client
from eventstore.decider.decider import Decider
from eventstore.decider.domain import Domain
from eventstore.errors import Rejected
from eventstore.jetstream.publish import publish_acked
from eventstore.messages.subjects import Subjects
from eventstore.messages.types import Command, Event

KEPT_LOG = Path(__file__).parents[1] / "data" / "depot_v1.jsonl"

subjects = Subjects("depot")


class LogLine(msgspec.Struct, frozen=True):
    """A line of the kept log."""

    subject: str
    headers: dict[str, str]
    payload: str


def kept_log() -> list[LogLine]:
    lines = KEPT_LOG.read_bytes().splitlines()
    return [msgspec.json.decode(line, type=LogLine) for line in lines]


async def load(client: Client) -> None:
    """Put the kept log into the log stream, byte by byte."""
    for line in kept_log():
        await publish_acked(client, line.subject, line.payload.encode(), line.headers)


class ParcelBooked(Event, subject="parcel.booked", schema_version=3):
    customer: str
    weight_kg: float
    fragile: bool


class ParcelArrived(Event, subject="parcel.moved", schema_version=2):
    place: str
    country: str


class ItemAdded(Event, subject="parcel.item_added"):
    name: str


class ParcelClosed(Event, subject="parcel.closed"):
    pass


class AddItem(Command, subject="parcel.add_item"):
    name: str


class Parcel(msgspec.Struct, frozen=True):
    weight_kg: float = 0.0
    items: tuple[str, ...] = ()
    closed: bool = False
    place: str = ""


parcel = Decider("parcel", initial=Parcel)


@parcel.decides
def add_item(parcel: Parcel, command: AddItem) -> ItemAdded:
    if parcel.closed:
        raise Rejected("closed", f"closed with {', '.join(parcel.items)} in {parcel.place}")
    return ItemAdded(name=command.name)


@parcel.evolves
def booked(parcel: Parcel, event: ParcelBooked) -> Parcel:
    return msgspec.structs.replace(parcel, weight_kg=event.weight_kg)


@parcel.evolves
def arrived(parcel: Parcel, event: ParcelArrived) -> Parcel:
    return msgspec.structs.replace(parcel, place=event.place)


@parcel.evolves
def added(parcel: Parcel, event: ItemAdded) -> Parcel:
    return msgspec.structs.replace(parcel, items=(*parcel.items, event.name))


@parcel.evolves
def closed(parcel: Parcel, event: ParcelClosed) -> Parcel:
    return msgspec.structs.replace(parcel, closed=True)


@parcel.upcasts("ParcelBooked", 1)
def weighed(data: dict[str, Any]) -> dict[str, Any]:
    number, _, unit = data.pop("weight").partition(" ")
    assert unit == "kg"
    return {**data, "weight_kg": float(number)}


@parcel.upcasts("ParcelBooked", 2)
def handled_with_care(data: dict[str, Any]) -> dict[str, Any]:
    data["fragile"] = data["weight_kg"] < 1
    return data


@parcel.upcasts("ParcelMoved", 1, to=("ParcelArrived", 1))
def moved(data: dict[str, Any]) -> dict[str, Any]:
    return {"place": data["to"]}


@parcel.upcasts("ParcelArrived", 1)
def in_a_country(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "country": {"Oslo": "NO", "Rome": "IT"}.get(data["place"], "?")}


@parcel.upcasts("ParcelPacked", 1, to=[("ItemAdded", 1), ("ParcelClosed", 1)])
def packed(data: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name in data["items"]:
        yield "ItemAdded", {"name": name}
    if data["closed"]:
        yield "ParcelClosed", {}


@parcel.upcasts("ParcelLookedAt", 1, to=[])
def looked_at(data: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return []


depot = Domain("depot", [parcel])
