"""A hotel that knows its guests by name: an application with all that the console shows."""

from __future__ import annotations

from typing import Annotated

from msgspec import Struct
from sqlalchemy import Column, MetaData, String, Table, insert

from eventstore import Application, Command, Decider, Event, RecordedEvent, Rejected
from eventstore.messages.personal import Personal
from eventstore.projections import Projection, Statement


class CheckIn(Command, subject="guest.check_in"):
    name: str


class Move(Command, subject="guest.move"):
    room: str


class CheckedIn(Event, subject="guest.checked_in"):
    name: Annotated[str, Personal()]


class Moved(Event, subject="guest.moved"):
    room: str


class Guest(Struct, frozen=True):
    name: str = ""
    room: str = ""


guest = Decider("guest", initial=Guest)


@guest.decides
def check_in(guest: Guest, command: CheckIn) -> CheckedIn:
    if guest.name:
        raise Rejected("already_here", f"{guest.name} is here")
    return CheckedIn(name=command.name)


@guest.decides
def move(guest: Guest, command: Move) -> Moved:
    return Moved(room=command.room)


@guest.evolves
def checked_in(guest: Guest, event: CheckedIn) -> Guest:
    return Guest(event.name, guest.room)


@guest.evolves
def moved(guest: Guest, event: Moved) -> Guest:
    return Guest(guest.name, event.room)


metadata = MetaData()
rooms = Table("guest_rooms", metadata, Column("guest", String(128), primary_key=True))
rooms_projection = Projection("rooms", tables=[rooms], on_poison="park", retries=0)


@rooms_projection.handles
def add(_event: CheckedIn, recorded: RecordedEvent) -> Statement:
    return insert(rooms).values(guest=recorded.aggregate_id)


@rooms_projection.handles
def change(event: Moved, recorded: RecordedEvent) -> list[Statement]:
    if event.room == "cellar":
        raise ValueError("nobody lives in the cellar")
    return []


def hotel(name: str) -> Application:
    """The application under a name of its own."""
    return Application(name, [guest], projections=[rooms_projection], version="1.2.3")
