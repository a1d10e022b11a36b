"""The records of processes: their names, and the form in which they are stored for ever."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import msgspec

from eventstore.messages.codec import Codec
from eventstore.messages.personal import Personal
from eventstore.messages.types import Command, Event
from eventstore.processes.instance import Instance
from eventstore.processes.records import Failed, OutgoingCommand, Reacted, Records, Trigger

TRIGGER = Trigger(
    id="5a44411c-94a1-4d3e-8d0b-6b1f6a2f0c11",
    type="Placed",
    aggregate="order",
    aggregate_id="o-1",
    version=1,
    position=7,
)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Rest(Command, subject="bell.rest"):
    times: int


class Rang(Event, subject="bell.rang"):
    pass


class Named(Event, subject="bell.named"):
    name: Annotated[str, Personal()]


def stored(event: Event) -> bytes:
    return Codec("tower", [Rest], [type(event)]).encode(event)


def test_a_reaction_is_stored_like_this() -> None:
    command = OutgoingCommand(
        id="0f96867c-94a1-4d3e-8d0b-6b1f6a2f0c11",
        aggregate="bell",
        action="rest",
        to="b-1",
        data={"times": 2},
    )
    reacted = Records("ring-ring", []).reacted(
        trigger=TRIGGER, commands=[command], timers={"noon": NOON}, begins=True
    )
    assert (type(reacted).__name__, type(reacted).__action__) == ("RingRingReacted", "reacted")
    assert stored(reacted) == (
        b'{"trigger":{"id":"5a44411c-94a1-4d3e-8d0b-6b1f6a2f0c11","type":"Placed",'
        b'"aggregate":"order","aggregate_id":"o-1","version":1,"position":7,"part":0},'
        b'"commands":[{"id":"0f96867c-94a1-4d3e-8d0b-6b1f6a2f0c11","aggregate":"bell",'
        b'"action":"rest","to":"b-1","data":{"times":2},"timer":null}],'
        b'"timers":{"noon":"2026-01-01T12:00:00Z"},"cancelled":[],"begins":true,"ends":false,'
        b'"given_up":[],"about":""}'
    )


def test_failures_and_rejections_are_stored_like_this() -> None:
    records = Records("ring_ring", [])
    failed = records.failed(trigger=TRIGGER, code="handler_failed", reason="broken")
    assert stored(failed).endswith(b'"part":0},"code":"handler_failed","reason":"broken"}')
    rejected = records.rejected(
        command_id="c", aggregate="bell", aggregate_id="b-1", action="rest", code="no"
    )
    assert stored(rejected) == (
        b'{"command_id":"c","aggregate":"bell","aggregate_id":"b-1","action":"rest","code":"no",'
        b'"message":""}'
    )
    names = [type(each).__name__ for each in (failed, rejected)]
    assert names == ["RingRingFailed", "RingRingCommandRejected"]


def test_the_ids_of_reactions_and_failures_never_change() -> None:
    assert TRIGGER.reaction_id("ringing") == "dd9573c5-290b-5fd5-928e-4ee4f03ea502"
    assert TRIGGER.failure_id("ringing", 3) == "9f4bafe3-bd42-5668-bd17-d2db887eb6d3"


def test_commands_are_encrypted_if_an_event_has_personal_data() -> None:
    codec = Codec("tower", [], [Records("ringing", [Named]).reacted])
    (cls,) = codec.event_types
    (field,) = codec.personal_fields(cls)
    assert (field.name, field.subject) == ("commands", "about")
    assert not Records("ringing", [Rang]).is_personal


def test_the_instance_is_the_fold_of_the_records() -> None:
    records = Records("ringing", [])
    started = records.reacted(trigger=TRIGGER, timers={"noon": NOON, "dusk": NOON}, begins=True)
    failed = records.failed(trigger=later(2), code="c", reason="r")
    running = folded(started, failed, records.reacted(trigger=later(3), cancelled=["noon"]))
    assert (running.status, running.reactions, [*running.timers]) == ("running", 2, ["dusk"])
    assert [each.version for each in running.failed.values()] == [2]
    assert running.recent == {"c": 2}
    mended = folded(records.reacted(trigger=later(2), ends=True), before=running)
    assert (mended.status, mended.failed, mended.timers) == ("ended", {}, {})
    anew = folded(records.reacted(trigger=later(9), begins=True), before=mended)
    assert (anew.status, anew.reactions, anew.recent) == ("running", 1, {"c": 4})


def later(version: int) -> Trigger:
    return msgspec.structs.replace(TRIGGER, id=TRIGGER.id[:-1] + str(version), version=version)


def folded(*events: Reacted | Failed, before: Instance | None = None) -> Instance:
    instance = before or Instance()
    for each in events:
        instance = instance.after(each, "ringing", "c")
    return instance
