"""The record of a parked message: the original, the reason, and its delivery history.

It is stored as JSON on the domain's parked stream; if that exceeds the largest message, it is split
into several messages, and the last of them names the others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise

import msgspec

from eventstore.client.client import Client
from eventstore.jetstream.publish import publish_acked
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.messages.envelope import format_timestamp, utc_now
from eventstore.messages.headers import Header
from eventstore.messages.subjects import Subjects

EARLIER_PARTS = "X-Earlier-Parts"
"""The header of a record's last message: the sequences of its earlier ones, if any."""

PART = "X-Part"
"""The header with a message's number among the record's parts: `1/1`, or `1/2` and `2/2`."""

_HEADER_BYTES = 512
_MAX_EARLIER = 64  # far more than the largest record has
_SEQUENCES = re.compile(rf"[1-9][0-9]{{0,18}}(?:,[1-9][0-9]{{0,18}}){{0,{_MAX_EARLIER - 1}}}")
_ILLEGAL = re.compile(r"[^A-Za-z0-9_.-]")


def _now() -> str:
    return format_timestamp(utc_now())


class ParkedRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The original message, and why it was parked.

    `code` and `reason` are the error's. The original was stored in `stream` at `sequence` and
    `stored_at_ns` (nanoseconds of the Unix epoch), and delivered `delivered` times; `parked_at` is
    RFC 3339. A command has a `command_id`; an event has the `subscriber` that could not handle it,
    and how many `attempts` that has made.
    """

    subject: str
    headers: dict[str, str]
    payload: bytes
    code: str
    reason: str
    stream: str
    sequence: int
    stored_at_ns: int
    delivered: int
    parked_at: str = msgspec.field(default_factory=_now)
    aggregate: str | None = None
    aggregate_id: str | None = None
    command_id: str | None = None
    subscriber: str | None = None
    attempts: int | None = None


_decode = msgspec.json.Decoder(ParkedRecord).decode


def is_first_part(headers: Mapping[str, str]) -> bool:
    """Whether a message is a part of a record, but not its last one."""
    part = headers.get(PART, "")
    number, _, count = part.partition("/")
    is_part = number.isdecimal() and count.isdecimal() and len(part) < 20
    return is_part and int(number) < int(count)


def earlier_parts(last: StoredMessage) -> tuple[int, ...]:
    """The sequences of a record's other parts, by the headers of its last; raises `ValueError`."""
    if PART not in last.headers:
        raise ValueError(f"it has no {PART}")
    sequences = last.headers.get(EARLIER_PARTS)
    if sequences is None:
        return ()
    if not _SEQUENCES.fullmatch(sequences):
        raise ValueError(f"its {EARLIER_PARTS} are not up to {_MAX_EARLIER} sequences")
    earlier = tuple(map(int, sequences.split(",")))
    if any(one >= other for one, other in pairwise((*earlier, last.sequence))):
        raise ValueError(f"its {EARLIER_PARTS} are not in order")
    return earlier


def read_record(earlier: Sequence[StoredMessage], last: StoredMessage) -> ParkedRecord:
    """Decode a record from its parts; raises one of `UNDECODABLE` if they are none."""
    for part in earlier:
        if not is_first_part(part.headers):
            raise ValueError(f"parked message {part.sequence} is not a part of it")
    return _decode(b"".join(part.payload for part in (*earlier, last)))


async def store_record(client: Client, subject: str, record: ParkedRecord, key: str) -> int:
    """Park a record on a subject, once for each `key` within the stream's duplicate window.

    Characters of the original's subject that are not allowed become `_`. Returns the sequence of
    its last message when the server has stored all of it. Raises `ClientError`; a record that is
    then incomplete is ignored.
    """
    subject = _ILLEGAL.sub("_", subject)
    stream = Subjects(subject.partition(".")[0]).parked_stream
    encoded = msgspec.json.encode(record)
    size = client.max_payload - _HEADER_BYTES
    parts = [encoded[start : start + size] for start in range(0, len(encoded), size)]
    sequences: list[int] = []
    for number, part in enumerate(parts, start=1):
        headers = {Header.MESSAGE_ID: f"{key}-{number}", PART: f"{number}/{len(parts)}"}
        if sequences and number == len(parts):
            headers[EARLIER_PARTS] = ",".join(map(str, sequences))
        ack = await publish_acked(client, subject, part, headers, stream=stream)
        sequences.append(ack.seq)
    return sequences[-1]
