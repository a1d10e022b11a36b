"""Recorders of the `eventsourcing` library on this store, by public names only.

A plug-in as another library would have it: its events, encoded already, are opaque events of their
own types; its aggregates are aggregates; its notification ids are positions of the log. Versions
of that library begin anywhere and may have gaps (snapshots do), so they are in a header.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    DataError,
    InfrastructureFactory,
    IntegrityError,
    Notification,
    OperationalError,
    ProcessRecorder,
    StoredEvent,
    Subscription,
    Tracking,
)
from eventsourcing.utils import Environment, EnvType

from eventstore import NO_STREAM, Append, AppendResult, Head, OpaqueEvent, RecordedEvent
from eventstore.config import Settings
from eventstore.errors import (
    AppendUnknown,
    ClientError,
    Conflict,
    CorruptLog,
    EventTooLarge,
    InvalidMessage,
)
from eventstore.messages import Codec
from eventstore.sync import SyncEventStore

ORIGINATOR, SNAPSHOT, _TRACKING = "originator", "snapshot", "tracking"
_VERSION = "Originator-Version"

STORES: dict[str, SyncEventStore] = {}
"""The open stores, by the names that applications know them by."""

_UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def open_store(settings: Settings, domain: str) -> SyncEventStore:
    """A store for recorders, to be opened by `with`."""
    codec = Codec(domain, (), (), aggregates=(ORIGINATOR, SNAPSHOT, _TRACKING))
    return SyncEventStore(settings, codec, declare_log=True)


class StoreAggregateRecorder(AggregateRecorder):
    """Records the events of aggregates, or snapshots: versions ascend, and may have gaps."""

    def __init__(self, store: SyncEventStore, kind: str = ORIGINATOR) -> None:
        self._store = store
        self._kind = kind

    def insert_events(
        self, stored_events: Sequence[StoredEvent], **kwargs: Any
    ) -> Sequence[int] | None:
        self._insert(stored_events, **kwargs)
        return None

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        with _translated():
            return list(self._selected(originator_id, gt, lte, desc, limit))

    def _selected(
        self,
        originator_id: UUID | str,
        gt: int | None,
        lte: int | None,
        desc: bool,
        limit: int | None,
    ) -> Iterator[StoredEvent]:
        after, until = 0, None
        if gt is not None:
            if (last := self._store.last(self._kind, originator_id)) is None:
                return
            # Versions ascend, so that those before the last are at least as far apart as ours.
            after = max(0, gt - (_version(last) - last.version))
        if lte is not None:
            until = max(after, lte + 1)  # theirs may begin with 0
        count = 0
        events = self._store.read(
            self._kind, originator_id, after=after, until=until, backwards=desc
        )
        with events:
            for event in events:
                if (gt is None or _version(event) > gt) and (lte is None or _version(event) <= lte):
                    yield StoredEvent(originator_id, _version(event), event.type, event.payload)
                    count += 1
                    if count == limit:
                        return

    def _insert(
        self, stored_events: Sequence[StoredEvent], tracking: Tracking | None = None
    ) -> list[AppendResult]:
        grouped: dict[UUID | str, list[StoredEvent]] = {}
        for each in stored_events:
            grouped.setdefault(each.originator_id, []).append(each)
        with _translated():
            appends = [self._append(*each) for each in grouped.items()]
            if tracking is not None:
                appends.append(self._track(tracking))
            return self._store.append_all(*appends) if appends else []

    def _append(self, originator_id: UUID | str, events: list[StoredEvent]) -> Append:
        versions = [each.originator_version for each in events]
        last = None if versions[0] == 0 else self._store.last(self._kind, originator_id)
        before = [] if last is None else [_version(last)]
        if [*before, *versions] != sorted({*before, *versions}):
            raise IntegrityError(f"versions of {originator_id} are recorded already")
        return Append(
            aggregate=self._kind,
            aggregate_id=originator_id,
            events=[
                OpaqueEvent(
                    type=each.topic,
                    payload=each.state,
                    headers={_VERSION: str(each.originator_version)},
                )
                for each in events
            ],
            expected=NO_STREAM if last is None else Head.after(last),
        )

    def _track(self, tracking: Tracking) -> Append:
        last = self._store.last(_TRACKING, tracking.application_name)
        if last is not None and int(last.payload) >= tracking.notification_id:
            raise IntegrityError(f"{tracking} is recorded already")
        return Append(
            aggregate=_TRACKING,
            aggregate_id=tracking.application_name,
            events=[OpaqueEvent(type="Tracking", payload=b"%d" % tracking.notification_id)],
            expected=NO_STREAM if last is None else Head.after(last),
        )


class StoreApplicationRecorder(StoreAggregateRecorder, ApplicationRecorder):
    """Also reads the events of all aggregates, in order."""

    only: str | None = None
    """The kind of aggregates whose events are notifications; None if there is no other."""

    def insert_events(
        self, stored_events: Sequence[StoredEvent], **kwargs: Any
    ) -> Sequence[int] | None:
        return [at for result in self._insert(stored_events, **kwargs) for at in result.positions]

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        after = max(0, (start or 0) - inclusive_of_start)
        if stop is not None and stop < after:
            return []
        options: dict[str, Any] = {"until": stop, "limit": limit, "types": topics}
        try:
            with _translated():
                found = self._store.read_all(after=after, aggregate=self.only, **options)
                return [_notification(event) for event in found]
        except CorruptLog:
            if after > self._store.log_end():
                return []
            raise

    def max_notification_id(self) -> int | None:
        with _translated():
            if self.only is None:
                return self._store.log_end() or None
            newest = self._store.read_all(aggregate=self.only, backwards=True, limit=1)
            return next((event.position for event in newest), None)

    def subscribe(
        self, gt: int | None = None, topics: Sequence[str] = ()
    ) -> Subscription[ApplicationRecorder]:
        return StoreSubscription(self, gt, topics)


class StoreProcessRecorder(StoreApplicationRecorder, ProcessRecorder):
    """Also records, atomically with events, up to where those of others were processed."""

    only = ORIGINATOR

    def insert_tracking(self, tracking: Tracking) -> None:
        self._insert([], tracking)

    def max_tracking_id(self, application_name: str) -> int | None:
        with _translated():
            last = self._store.last(_TRACKING, application_name)
            return None if last is None else int(last.payload)


class StoreSubscription(Subscription[ApplicationRecorder]):
    """The events after a position, and then each new one when it comes."""

    def __init__(
        self, recorder: StoreApplicationRecorder, gt: int | None, topics: Sequence[str]
    ) -> None:
        super().__init__(recorder, gt, topics)
        self._events = recorder._store.read_all(
            after=gt or 0, aggregate=recorder.only, types=topics, live=True
        )

    def stop(self) -> None:
        super().stop()
        self._events.close()

    def __next__(self) -> Notification:
        if self._has_been_stopped:
            raise StopIteration
        with _translated():
            return _notification(next(self._events))


class Factory(InfrastructureFactory[StoreProcessRecorder]):
    """Makes recorders for an application that names this module as its `PERSISTENCE_MODULE`."""

    def __init__(self, env: Environment | EnvType | None) -> None:
        super().__init__(env)
        self._store = STORES[self.env.get("STORE", "")]

    def aggregate_recorder(self, purpose: str = "events") -> StoreAggregateRecorder:
        kind = ORIGINATOR if purpose == "events" else SNAPSHOT
        return StoreAggregateRecorder(self._store, kind)

    def application_recorder(self) -> StoreApplicationRecorder:
        recorder = StoreApplicationRecorder(self._store)
        recorder.only = ORIGINATOR if self.is_snapshotting_enabled() else None
        return recorder

    def process_recorder(self) -> StoreProcessRecorder:
        return StoreProcessRecorder(self._store)

    def tracking_recorder(
        self, tracking_recorder_class: type[StoreProcessRecorder] | None = None
    ) -> StoreProcessRecorder:
        return (tracking_recorder_class or StoreProcessRecorder)(self._store)


def _version(event: RecordedEvent) -> int:
    return int(event.headers[_VERSION])


def _notification(event: RecordedEvent) -> Notification:
    own = event.aggregate_id
    return Notification(
        originator_id=UUID(own) if _UUID.fullmatch(own) else own,
        originator_version=_version(event),
        topic=event.type,
        state=event.payload,
        id=event.position,
    )


@contextmanager
def _translated() -> Iterator[None]:
    """Raises the other library's errors."""
    try:
        yield
    except Conflict as error:
        raise IntegrityError(str(error)) from error
    except (InvalidMessage, EventTooLarge) as error:
        raise DataError(str(error)) from error
    except (ClientError, AppendUnknown) as error:
        raise OperationalError(str(error)) from error
