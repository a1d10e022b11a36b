"""The record of a parked message: the original, whole, and why, where, when and how often tried.

It is kept as JSON on the domain's parked stream; where that is larger than one message may be, its
bytes are in several messages, and the last of them names the others.
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

__all__ = [
    "EARLIER_PARTS",
    "PART",
    "ParkedRecord",
    "earlier_parts",
    "is_first_part",
    "keep_record",
    "read_record",
]

EARLIER_PARTS = "X-Earlier-Parts"
"""The header of a record's last message that has the sequences of those before it, if any."""

PART = "X-Part"
"""The header that says which part of the record a message holds: `1/1`, or `1/2` and `2/2`."""

_HEADER_ROOM = 512
_MOST_EARLIER = 64  # far more than the largest record has
_SEQUENCES = re.compile(rf"[1-9][0-9]{{0,18}}(?:,[1-9][0-9]{{0,18}}){{0,{_MOST_EARLIER - 1}}}")
_STRANGE = re.compile(r"[^A-Za-z0-9_.-]")


def _now() -> str:
    return format_timestamp(utc_now())


class ParkedRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is parked: the original bytes and headers, and what happened to them.

    `code` and `reason` say why. `stream` and `sequence` are the place the original had, stored
    there at `stored_at_ns` (nanoseconds of the Unix epoch) and delivered `delivered` times;
    `parked_at` is RFC 3339. A command has a `command_id`; an event has the `subscriber` that could
    not handle it, and how many `attempts` that has made.
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
    """Whether a message is a part of a record, and not the last of it."""
    place = headers.get(PART, "")
    number, _, count = place.partition("/")
    is_place = number.isdecimal() and count.isdecimal() and len(place) < 20
    return is_place and int(number) < int(count)


def earlier_parts(last: StoredMessage) -> tuple[int, ...]:
    """The sequences of a record's other parts, by the headers of its last; raises `ValueError`."""
    if PART not in last.headers:
        raise ValueError(f"it has no {PART}")
    named = last.headers.get(EARLIER_PARTS)
    if named is None:
        return ()
    if not _SEQUENCES.fullmatch(named):
        raise ValueError(f"its {EARLIER_PARTS} are not up to {_MOST_EARLIER} sequences")
    earlier = tuple(map(int, named.split(",")))
    if any(one >= other for one, other in pairwise((*earlier, last.sequence))):
        raise ValueError(f"its {EARLIER_PARTS} do not stand before it in order")
    return earlier


def read_record(earlier: Sequence[StoredMessage], last: StoredMessage) -> ParkedRecord:
    """Put a record's parts together; raises one of `UNDECODABLE` where they are none."""
    for part in earlier:
        if not is_first_part(part.headers):
            raise ValueError(f"parked message {part.sequence} is no part of it")
    return _decode(b"".join(part.payload for part in (*earlier, last)))


async def keep_record(client: Client, subject: str, record: ParkedRecord, key: str) -> int:
    """Park a record on a subject, once for each `key` within the stream's duplicate window.

    What the subject may not have, because the original's had it, is written `_` there.

    Returns its sequence, which is that of its last message, when the server has all of it. Raises
    `ClientError`; what is then parked in part does not count as parked.
    """
    subject = _STRANGE.sub("_", subject)
    stream = Subjects(subject.partition(".")[0]).parked_stream
    whole = msgspec.json.encode(record)
    size = client.max_payload - _HEADER_ROOM
    parts = [whole[start : start + size] for start in range(0, len(whole), size)]
    sequences: list[int] = []
    for number, part in enumerate(parts, start=1):
        headers = {Header.MESSAGE_ID: f"{key}-{number}", PART: f"{number}/{len(parts)}"}
        if sequences and number == len(parts):
            headers[EARLIER_PARTS] = ",".join(map(str, sequences))
        ack = await publish_acked(client, subject, part, headers, stream=stream)
        sequences.append(ack.seq)
    return sequences[-1]
