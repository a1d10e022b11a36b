"""The processes of a domain: which there are, how they are, and what each has done."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing, suppress
from datetime import datetime
from typing import Any, Literal

from msgspec import Struct

from eventstore.client.client import Client
from eventstore.errors import HandlerFailed, InvalidMessage, UnknownProcess
from eventstore.jetstream.api import count_by_subject, log_end
from eventstore.jetstream.direct_get import DirectReader
from eventstore.messages.events import RecordedEvent
from eventstore.messages.headers import Header, position_of
from eventstore.parking.messages import ParkedMessage, ParkedMessages
from eventstore.processes.history import ProcessHistory
from eventstore.processes.instance import Instance
from eventstore.processes.process import Process
from eventstore.processes.records import CommandRejected, Failed, Reacted, Trigger
from eventstore.store.store import EventStore
from eventstore.subscribers.publication import read_publication

ProcessStatusName = Literal["running", "ended", "failed"]
"""Failed: it takes no event until the one that it has failed at is retried or discarded."""


class ProcessStep(Struct, frozen=True, kw_only=True):
    """One record of a process: the event that it was about, and what it has led to.

    `kind` is "reacted", "failed" or "rejected"; `trigger` is the event, or the command that was
    rejected, and `about` its aggregate and id. `sent` are the commands, with their aggregates and
    ids, `timers` are when those of a name are due, `cancelled` the names of others. `reason` is why
    it failed, or why the command was rejected.
    """

    kind: Literal["reacted", "failed", "rejected"]
    id: str
    time: datetime
    trigger: str
    about: str
    correlation_id: str
    sent: tuple[str, ...] = ()
    timers: dict[str, datetime] = {}
    cancelled: tuple[str, ...] = ()
    begins: bool = False
    ends: bool = False
    reason: str = ""


class ProcessStatus(Struct, frozen=True, kw_only=True):
    """One process: when it started, when it last reacted, and which timers are waiting.

    `failed` are the events at which it has failed and that are still parked, with the sequences
    there. `reactions` are those since it started. `position` is that of its last record in the log.
    """

    process: str
    key: str
    status: ProcessStatusName
    started: datetime | None
    last: datetime
    reactions: int
    timers: dict[str, datetime] = {}
    failed: dict[int, str] = {}
    position: int = 0


class Processes:
    """The processes of a domain; all methods raise what `EventStore.read` raises.

    They also raise `UnknownProcess` for a kind, or a key, that there is not.
    """

    def __init__(
        self, client: Client, store: EventStore, processes: Iterable[Process[Any]]
    ) -> None:
        self._client = client
        self._store = store
        self._processes = {each.name: each for each in processes}
        self._parked = ParkedMessages(client, store.codec.subjects)

    async def list(
        self,
        process: str | None = None,
        *,
        failed: bool = False,
        before: int | None = None,
        limit: int = 50,
    ) -> AsyncGenerator[ProcessStatus, None]:
        """The processes of one kind, or of all, those with the latest records first.

        At most `limit` of each kind, and of the first 100,000, whose last record is `before` a
        position; or only those that have `failed`, in the order of the events that they have
        failed at.
        """
        for name in self._processes if process is None else [self._checked(process)]:
            parked = await self.parked(name)
            keys = self._failed(name, parked) if failed else self._keys(name, before)
            for key in (await keys)[:limit]:
                status = await self._status(name, key, parked)
                if status.failed or not failed:
                    yield status

    async def get(self, process: str, key: str) -> ProcessStatus:
        """One process."""
        return await self._status(self._checked(process), key, await self.parked(process))

    async def steps(self, process: str, key: str) -> Sequence[ProcessStep]:
        """All that one process has recorded, oldest first."""
        return [_step_of(each) for each in await self._records(self._checked(process), key)]

    async def parked(self, process: str) -> Sequence[ParkedMessage]:
        """The events that processes of this kind have failed at, in the order of the log."""
        process = self._checked(process)
        reading = self._parked.read(kind="event")
        async with aclosing(reading) as messages:
            found = [each async for each in messages if isinstance(each, ParkedMessage)]
        own = [each for each in found if each.record.subscriber == process]
        return sorted(own, key=lambda each: position_of(each.record.headers) or 0)

    def _checked(self, process: str) -> str:
        if process not in self._processes:
            known = ", ".join(sorted(self._processes)) or "none"
            raise UnknownProcess(f"there is no process {process}; the application has {known}")
        return process

    async def _failed(self, process: str, parked: Sequence[ParkedMessage]) -> Sequence[str]:
        """The keys of the processes that have failed at parked events, as far as these are read."""
        found: dict[str, None] = {}
        for each in parked:
            with suppress(InvalidMessage, HandlerFailed):
                keys = await self._store.keyring.to_open([each.record.headers])
                of = each.record.subject, each.record.headers, each.record.payload
                for part in read_publication(self._store.codec, *of, keys):
                    found |= dict.fromkeys(filter(None, [self._key_of(process, part)]))
        return [key for key in found if await self._store.last_position(process, key)]

    def _key_of(self, process: str, event: RecordedEvent) -> str | None:
        if isinstance(event.data, CommandRejected):
            return event.aggregate_id
        return self._processes[process].key_of(event.data, event)

    async def _keys(self, process: str, before: int | None) -> Sequence[str]:
        """The keys of the processes that have recorded something, the latest first."""
        subjects, stream = self._store.codec.subjects, self._store.codec.subjects.log_stream
        found = [*await count_by_subject(self._client, stream, subjects.log_of(process))]
        reader = DirectReader(self._client, stream)
        end = await log_end(self._client, subjects) or 0
        last = await reader.last_of_each(found, end) if found else []
        latest = sorted(last, key=lambda each: each.sequence, reverse=True)
        return [
            subjects.parse_log(each.subject)[1]
            for each in latest
            if before is None or each.sequence < before
        ]

    async def _records(self, process: str, key: str) -> Sequence[RecordedEvent]:
        async with aclosing(ProcessHistory(process, self._store).read(key, leader=True)) as records:
            found = [event async for event, _ in records]
        if not found:
            raise UnknownProcess(f"process {process} has no record of {key}")
        return found

    async def _status(
        self, process: str, key: str, parked: Sequence[ParkedMessage]
    ) -> ProcessStatus:
        instance, started = Instance(), None
        records = await self._records(process, key)
        for each in records:
            instance = instance.after(each.data, process, each.correlation_id)
            if isinstance(each.data, Reacted) and each.data.begins:
                started = each.time
        positions = {each.position for each in instance.failed.values()}
        failed = {
            each.sequence: str(each.record.headers.get(Header.EVENT_TYPE, ""))
            for each in parked
            if position_of(each.record.headers) in positions
        }
        ended: ProcessStatusName = "ended" if instance.status == "ended" else "running"
        return ProcessStatus(
            process=process,
            key=key,
            status="failed" if failed else ended,
            started=started,
            last=records[-1].time,
            position=records[-1].position,
            reactions=instance.reactions,
            timers=instance.timers,
            failed=failed,
        )


def _step_of(record: RecordedEvent) -> ProcessStep:
    """A record of a process, as people read it."""
    data = record.data
    if isinstance(data, CommandRejected):
        return ProcessStep(
            **_about(record, f"{data.aggregate}.{data.action}", data.aggregate, data.aggregate_id),
            kind="rejected",
            reason=": ".join(filter(None, (data.code, data.message))),
        )
    trigger: Trigger = data.trigger  # type: ignore[attr-defined]
    about = _about(record, trigger.type, trigger.aggregate, trigger.aggregate_id)
    if isinstance(data, Failed):
        return ProcessStep(**about, kind="failed", reason=f"{data.code}: {data.reason}")
    return ProcessStep(**about, kind="reacted", **_reacted(data))


def _about(record: RecordedEvent, trigger: str, aggregate: str, aggregate_id: str) -> Any:
    return {
        "id": record.id,
        "time": record.time,
        "correlation_id": record.correlation_id,
        "trigger": trigger,
        "about": f"{aggregate} {aggregate_id}",
    }


def _reacted(data: Any) -> Any:
    sent = [each for each in data.commands if each.timer is None]
    return {
        "sent": tuple(f"{each.aggregate}.{each.action} to {each.to}" for each in sent),
        "timers": data.timers,
        "cancelled": tuple(data.cancelled),
        "begins": data.begins,
        "ends": data.ends,
    }
