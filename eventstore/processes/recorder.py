"""The recorder: appends the reactions and failures of one kind of process to the log."""

from __future__ import annotations

from typing import Any

import msgspec

from eventstore.commands.state_cache import CachedState
from eventstore.errors import Conflict, SubjectForgotten
from eventstore.messages.encryption import subjects_in
from eventstore.messages.envelope import Identity
from eventstore.messages.events import NewEvent, RecordedEvent
from eventstore.messages.outcome import code_of
from eventstore.messages.text import presentable
from eventstore.messages.types import Event
from eventstore.processes.instance import Instance
from eventstore.processes.process import Process
from eventstore.processes.records import Reacted, RecordedReaction, Trigger
from eventstore.store.append import NO_STREAM, Append, AppendResult
from eventstore.store.store import EventStore
from eventstore.telemetry import Telemetry


class Recorder:
    """Records what one kind of process does, on the head that it was loaded at."""

    def __init__(self, process: Process[Any], store: EventStore, telemetry: Telemetry) -> None:
        self._name = process.name
        self._records = process.records
        self._store = store
        self._telemetry = telemetry

    async def record(
        self, key: str, recorded: RecordedEvent, cached: CachedState, event: Reacted
    ) -> RecordedReaction:
        """Record a reaction to an event, and move the head of what is cached.

        Raises `Conflict` if the process has moved on, and what `EventStore.append_all` raises.
        """
        instance: Instance = cached.state.instance
        event = msgspec.structs.replace(event, about=self._about(key, recorded, instance))
        try:
            return await self._recorded(key, recorded, cached, event)
        except SubjectForgotten:
            # The state has nothing of that subject any more, so the commands do not, either.
            event = msgspec.structs.replace(event, about=self._own_subject(key))
            return await self._recorded(key, recorded, cached, event)

    async def record_failure(
        self, key: str, recorded: RecordedEvent, cached: CachedState, error: Exception
    ) -> None:
        """Record that a process cannot react to an event, unless that is recorded already.

        Raises what `record` raises.
        """
        trigger = Trigger.of(recorded)
        if trigger.reaction_id(self._name) in cached.state.instance.failed:
            return
        is_personal = self._store.codec.has_personal()
        reason = type(error).__name__ if is_personal else presentable(str(error) or repr(error))
        event = self._records.failed(trigger=trigger, code=code_of(error), reason=reason)
        own = trigger.failure_id(self._name, cached.head.version)
        await self._append(key, recorded, cached, event, own)

    async def _recorded(
        self, key: str, recorded: RecordedEvent, cached: CachedState, event: Reacted
    ) -> RecordedReaction:
        own = event.trigger.reaction_id(self._name)
        appended = await self._append(key, recorded, cached, event, own)
        if appended.duplicate:  # by another process, and perhaps not the same
            raise Conflict(self._name, key, cached.head.version, appended.version)
        cached.head = appended.head
        envelope = recorded.envelope
        identity = Identity.caused_by(envelope.identity, own)
        return RecordedReaction(event, identity, envelope.actor, envelope.traceparent)

    async def _append(
        self, key: str, recorded: RecordedEvent, cached: CachedState, event: Event, own: str
    ) -> AppendResult:
        envelope = recorded.envelope
        new = NewEvent(
            data=event,
            identity=Identity.caused_by(envelope.identity, own),
            actor=envelope.actor,
            traceparent=envelope.traceparent,
        )
        (appended,) = await self._store.append_all(
            Append(
                aggregate=self._name,
                aggregate_id=key,
                events=[new],
                expected=cached.head if cached.head.version else NO_STREAM,
                known_new=True,  # the process was searched for the id
            )
        )
        self._telemetry.count("events_appended", aggregate=self._name)
        return appended

    def _about(self, key: str, recorded: RecordedEvent, instance: Instance) -> str:
        """Whose personal data the commands may have: that of the event, or of an earlier one."""
        if not self._records.is_personal:
            return ""
        fields = self._store.codec.personal_fields(type(recorded.data))
        subjects = subjects_in(recorded.data, fields, recorded.aggregate_id)
        return min(subjects, default=instance.about or self._own_subject(key))

    def _own_subject(self, key: str) -> str:
        """The data subject of commands that are about nobody, or nobody any more."""
        return f"{self._name}.{key}"
