"""An append in progress: its encoded events, where they begin, and its result."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import repeat

from msgspec.structs import replace

from eventstore.errors import InvalidId, InvalidMessage
from eventstore.jetstream.publish import Draft, guard_line
from eventstore.messages.codec import Codec
from eventstore.messages.encryption import PERSONAL, Keys, seal, subjects_in
from eventstore.messages.event_template import EncodedEvent
from eventstore.messages.events import NewEvent
from eventstore.messages.headers import Header
from eventstore.messages.personal import PersonalField
from eventstore.messages.types import Event
from eventstore.store.append import NO_STREAM, Append, AppendResult, Expectation
from eventstore.store.event_encoder import EventEncoder
from eventstore.store.head import NOTHING, FoundHead, Head

_EXPECTED = Expectation, int, Head


class PendingAppend:
    """One `Append` in progress: its encoded events, its base, and its result once recorded.

    Personal data must be encrypted by `seal`, with the keys of `data_subjects`, before it is sent.
    What the append has for the envelopes is checked, unless it `is_checked`.
    """

    __slots__ = (
        "_chain",
        "_encoded",
        "_personal",
        "aggregate_id",
        "append",
        "base",
        "end",
        "event_ids",
        "events",
        "may_be_repeat",
        "result",
        "subject",
    )

    def __init__(
        self, append: Append, codec: Codec, now: datetime, *, is_checked: bool = False
    ) -> None:
        codec.check_aggregate(append.aggregate)
        if not isinstance(append.expected, _EXPECTED):
            raise _no_expectation(append)
        self.append = append
        self._chain = ""
        self.subject = codec.subjects.log(append.aggregate, append.aggregate_id)
        self.aggregate_id = str(append.aggregate_id)
        self.events: list[Event] = []
        """The events as they will be read."""
        self.may_be_repeat = append.cause is not None and not append.known_new
        """Whether the caller has chosen the ids, and so may have sent them before."""
        self._encoded: list[EncodedEvent] = []
        self._personal: dict[int, tuple[Event, tuple[PersonalField, ...]]] = {}  # by index
        encoder = EventEncoder(append, self.subject, codec, now, is_checked=is_checked)
        ids: list[str] = []
        for index, event in enumerate(append.events):
            if isinstance(event, NewEvent):
                data, own = event.data, event
                self.may_be_repeat |= event.identity is not None and not append.known_new
            else:
                data, own = event, None
            encoded, as_read = encoder.encode(index, data, own)
            self._encoded.append(encoded)
            self.events.append(as_read)
            ids.append(encoded.identity.id)
            if fields := codec.personal_fields(type(data)):
                self._personal[index] = data, fields
        self.event_ids = tuple(ids)
        self.base: Head = NOTHING
        self.end = 0  # the last message on the subject: foreign ones may follow the base
        self.result: AppendResult | None = None
        if not self.event_ids:
            raise InvalidMessage(
                f"append to {append.aggregate} {self.aggregate_id}: no events are given"
            )
        if len(self.event_ids) > 1 and len(set(self.event_ids)) < len(self.event_ids):
            raise InvalidId(
                f"append to {append.aggregate} {self.aggregate_id}: an id repeats; "
                "each event needs its own"
            )

    @property
    def is_fixed(self) -> bool:
        """Whether the caller named the base."""
        expected = self.append.expected
        return isinstance(expected, Head) or expected is NO_STREAM

    def begin_at(self, found: FoundHead) -> None:
        """Append the events after this head."""
        self.base, self.end = found.head, found.end

    @property
    def has_personal(self) -> bool:
        """Whether any of the events has personal data."""
        return bool(self._personal)

    @property
    def data_subjects(self) -> set[str]:
        """The subjects of the events' personal data; raises `InvalidPayload`."""
        subjects: set[str] = set()
        for event, fields in self._personal.values():
            subjects |= subjects_in(event, fields, self.aggregate_id)
        return subjects

    def seal(self, keys: Keys) -> None:
        """Encrypt the personal data; raises `SubjectForgotten`."""
        for index, (event, fields) in self._personal.items():
            self._encoded[index] = _sealed(self._encoded[index], event, fields, keys)

    def drafts(self, batch: Iterable[str] = repeat("")) -> list[Draft]:
        """The events as messages that follow the base, which guards the first of them.

        Each also has the next lines of the `batch`.
        """
        version, chain, guard = self.base.version, self.base.chain, guard_line(self.end)
        drafts = []
        for each, more in zip(self._encoded, batch, strict=False):
            version += 1
            lines, chain = each.written(chain, version)
            lines = f"{lines}{more}{guard}"
            drafts.append(Draft(self.subject, lines, each.payload, each.template.name))
            guard = ""
        self._chain = chain
        return drafts

    def recorded_at(self, last: int) -> Head:
        """Set the result: the events of the last `drafts` are recorded, the last at this position.

        Their positions have no gaps. Returns the head after them.
        """
        count = len(self.event_ids)
        head = Head(last, self.base.version + count, self._chain, self.event_ids[-1])
        self.recorded(head, range(last - count + 1, last + 1), duplicate=False)
        return head

    def recorded(self, head: Head, positions: Sequence[int], *, duplicate: bool) -> AppendResult:
        """Set the result: the events are recorded."""
        self.result = AppendResult(
            aggregate=self.append.aggregate,
            aggregate_id=self.aggregate_id,
            head=head,
            event_ids=self.event_ids,
            positions=tuple(positions),
            duplicate=duplicate,
        )
        return self.result


def _sealed(
    encoded: EncodedEvent, event: Event, fields: tuple[PersonalField, ...], keys: Keys
) -> EncodedEvent:
    """The same with its personal data encrypted; raises `SubjectForgotten`."""
    headers = {
        Header.EVENT_ID: encoded.identity.id,
        Header.EVENT_TYPE: encoded.template.name,
        Header.AGGREGATE_ID: encoded.aggregate_id,
    }
    payload, headers = seal(event, encoded.payload, headers, fields, keys)
    names = headers.get(PERSONAL)
    added = "" if names is None else f"{PERSONAL}: {names}\r\n"
    return replace(encoded, payload=payload, optional=encoded.optional + added)


def _no_expectation(append: Append) -> InvalidMessage:
    return InvalidMessage(
        f"append to {append.aggregate} {append.aggregate_id}: {append.expected!r:.80} cannot "
        "be expected: a version, a head, NO_STREAM, STREAM_EXISTS or ANY can"
    )
