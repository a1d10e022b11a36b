"""The lines of an export file: what each says, and the sums that guard them.

A file is JSON Lines. Each line ends with a sum: SHA-256 over all lines since the first, that one
left out, so that a line that was changed, removed or moved is found where it stands. Event lines
carry the first 16 digits of it, the others all 64. The first line's sum is over itself alone: the
events' sums do not depend on when the export was made.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec

from eventstore.jetstream.direct_get import StoredMessage
from eventstore.messages.headers import Header
from eventstore.undecodable import UNDECODABLE

__all__ = ["EventLine", "FileCheckpoint", "FileEnd", "FileSums", "FirstLine", "Line", "Transformed"]

_SHORT = 16
_SUM = b',"sum":"'


class Transformed(msgspec.Struct, frozen=True, kw_only=True):
    """That what follows was transformed: by what, when, and what it was before.

    `source` is the sum at the end of the file that was transformed.
    """

    by: str
    time: str
    events: int
    source: str


class FirstLine(msgspec.Struct, frozen=True, kw_only=True, tag_field="line", tag="log"):
    """Which log it is, from when. `last` is the log's last position at that time."""

    format: Literal["eventstore-export"] = "eventstore-export"
    format_version: Literal[1] = 1
    domain: str
    stream: str
    time: str
    first: int
    last: int
    transformed: list[Transformed] = []


class EventLine(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="line", tag="event", omit_defaults=True
):
    """An event as it is stored; its payload is text where it is UTF-8, and Base64 if not."""

    position: int
    subject: str
    headers: dict[str, str]
    text: str | None = None
    binary: bytes | None = None

    @classmethod
    def of(cls, message: StoredMessage) -> EventLine:
        """The line for a message."""
        return cls.made(message.sequence, message.subject, message.headers, message.payload)

    @classmethod
    def made(
        cls, position: int, subject: str, headers: dict[str, str], payload: bytes
    ) -> EventLine:
        """The line for what a message consists of."""
        try:
            text = payload.decode()
        except UnicodeDecodeError:
            return cls(position=position, subject=subject, headers=headers, binary=payload)
        return cls(position=position, subject=subject, headers=headers, text=text)

    @property
    def payload(self) -> bytes:
        """The payload's bytes."""
        return (self.text or "").encode() if self.binary is None else self.binary

    @property
    def event_type(self) -> str:
        """The type's name, as far as there is one."""
        return self.headers.get(Header.EVENT_TYPE, "?")


class FileCheckpoint(msgspec.Struct, frozen=True, kw_only=True, tag_field="line", tag="checkpoint"):
    """How many events there were so far, and the position of the last."""

    events: int
    position: int


class FileEnd(msgspec.Struct, frozen=True, kw_only=True, tag_field="line", tag="end"):
    """All was written: so many events, the last at this position."""

    events: int
    position: int


Line = FirstLine | EventLine | FileCheckpoint | FileEnd

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Line).decode


class FileSums:
    """The sums of a file's lines, one after another."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    @property
    def value(self) -> str:
        """The sum so far: 64 hexadecimal digits."""
        return self._hash.hexdigest()

    def copy(self) -> FileSums:
        """One that goes on from here by itself."""
        copied = FileSums()
        copied._hash = self._hash.copy()
        return copied

    def seal(self, line: Line) -> bytes:
        """The next line with its sum."""
        body = _encode(line)[:-1]
        return b'%b%b%b"}\n' % (body, _SUM, self._next(body, type(line)))

    def open(self, raw: bytes) -> Line:
        """Read the next line, which is without its line break; raises `ValueError` if damaged."""
        body, _, end = raw.rpartition(_SUM)
        try:
            line: Line = _decode(raw)
        except UNDECODABLE as error:
            raise ValueError(f"it is no line of an export: {error}") from error
        if end != self._next(body, type(line)) + b'"}':
            raise ValueError(
                "its sum is not that of what stands there, or a line is missing before"
            )
        return line

    def _next(self, body: bytes, kind: type[Line]) -> bytes:
        if kind is FirstLine:
            return hashlib.sha256(body).hexdigest().encode()
        self._hash.update(body)
        return self.value[: _SHORT if kind is EventLine else None].encode()
