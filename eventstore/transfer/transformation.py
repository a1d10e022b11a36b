"""A transformation of a log: what it is given, what it may return, and the summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from eventstore.errors import EventStoreError, TransferError
from eventstore.messages.envelope import Envelope
from eventstore.messages.headers import Header
from eventstore.messages.subjects import Subjects
from eventstore.transfer.file_format import EventLine


class CopiedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event to copy; `replace` returns a changed one.

    `payload` is as stored, `data` is the same decoded from JSON. `id`, `position`, `version` and
    `timestamp` are those of the original, and cannot be replaced.
    """

    aggregate: str
    aggregate_id: str
    type: str
    schema_version: int
    payload: bytes
    actor: str | None
    id: str
    position: int
    version: int
    timestamp: str

    @property
    def data(self) -> Any:
        """The payload, decoded from JSON; raises `msgspec.DecodeError` if it is not JSON."""
        return msgspec.json.decode(self.payload or b"{}")

    def replace(self, **changes: Any) -> CopiedEvent:
        """The event with other values; `data` is encoded as JSON in place of `payload`.

        Raises `TypeError` for a value that cannot be replaced.
        """
        if "data" in changes:
            changes["payload"] = msgspec.json.encode(changes.pop("data"))
        if fixed := changes.keys() & _FIXED:
            raise TypeError(f"an event's {', '.join(sorted(fixed))} cannot be replaced")
        return msgspec.structs.replace(self, **changes)


_FIXED = {"id", "position", "version", "timestamp"}
_IDENTITY = ("type", "aggregate", "aggregate_id")
_CONTENT = ("payload", "schema_version", "actor")

Transform = Callable[[CopiedEvent], CopiedEvent | Iterable[CopiedEvent] | None]
"""Returns what an event becomes: itself, another, several, or none."""


class CopySummary(msgspec.Struct, kw_only=True):
    """The number of events before and after, and by type how many were renamed, split, ...

    An event that was renamed and masked counts as both. `foreign` is how many messages that are not
    the store's were left out.
    """

    before: int = 0
    after: int = 0
    foreign: int = 0
    renamed: Counter[str] = msgspec.field(default_factory=Counter)
    split: Counter[str] = msgspec.field(default_factory=Counter)
    dropped: Counter[str] = msgspec.field(default_factory=Counter)
    masked: Counter[str] = msgspec.field(default_factory=Counter)

    def count(self, event: CopiedEvent, parts: Sequence[CopiedEvent]) -> None:
        """Count what an event became."""
        self.before += 1
        self.after += len(parts)
        if not parts:
            self.dropped[event.type] += 1
        elif len(parts) > 1:
            self.split[event.type] += 1
        else:
            self.renamed[event.type] += _differs(event, parts[0], _IDENTITY)
            self.masked[event.type] += _differs(event, parts[0], _CONTENT)


def apply_transform(transform: Transform, event: CopiedEvent, name: str) -> list[CopiedEvent]:
    """What an event becomes; raises `TransferError` if `transform` fails, or returns anything else.

    `name` is what the error calls the transformation.
    """
    where = f"position {event.position} ({event.type}): {name}"
    try:
        result: Any = transform(event)
        parts = _as_list(result)
    except Exception as error:
        raise TransferError(f"{where} failed: {type(error).__name__}: {error}") from error
    if not all(isinstance(each, CopiedEvent) for each in parts):
        raise TransferError(
            f"{where} returned {result!r:.80}, which is neither a CopiedEvent, nor a list of them, "
            "nor None"
        )
    return parts


def copied_event(line: EventLine, subjects: Subjects) -> CopiedEvent:
    """The event of a line; raises `TransferError` if it is none of the domain's."""
    try:
        aggregate, aggregate_id = subjects.parse_log(line.subject)
        envelope = Envelope.from_headers(line.headers)
    except EventStoreError as error:
        raise TransferError(f"position {line.position} cannot be copied: {error}") from error
    return CopiedEvent(
        aggregate=aggregate,
        aggregate_id=aggregate_id,
        type=envelope.type,
        schema_version=envelope.schema_version,
        payload=line.payload,
        actor=envelope.actor,
        id=envelope.identity.id,
        position=line.position,
        version=envelope.version or 0,
        timestamp=line.headers[Header.TIMESTAMP],
    )


def _as_list(result: Any) -> list[Any]:
    if result is None:
        return []
    return [*result] if isinstance(result, Iterable) else [result]


def _differs(one: CopiedEvent, other: CopiedEvent, names: Sequence[str]) -> bool:
    return any(getattr(one, name) != getattr(other, name) for name in names)
