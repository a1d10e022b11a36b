"""The lines of an export file and their checksums.

A file is JSON Lines. Each line ends with a checksum: SHA-256 over all lines after the first one, so
that a line that was changed, removed or moved is found by its number. Event lines carry the first
16 digits of it, the others all 64. The first line's checksum covers only itself: the events'
checksums do not depend on when the export was made.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec

from eventstore.jetstream.stored_message import StoredMessage
from eventstore.messages.undecodable import UNDECODABLE

_SHORT = 16
_SUM = b',"sum":"'


class Transformation(msgspec.Struct, frozen=True, kw_only=True):
    """How the events of the file were transformed: by what, when, and from how many events.

    `source` is the checksum at the end of the file that was transformed.
    """

    by: str
    time: str
    events: int
    source: str


class FirstLine(msgspec.Struct, frozen=True, kw_only=True, tag_field="line", tag="log"):
    """The log, and the time of the export; `last` is the log's last position at that time."""

    format: Literal["eventstore-export"] = "eventstore-export"
    format_version: Literal[1] = 1
    domain: str
    stream: str
    time: str
    first: int
    last: int
    transformed: list[Transformation] = []


class EventLine(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="line", tag="event", omit_defaults=True
):
    """An event as it is stored; its payload is text if it is UTF-8, Base64 otherwise."""

    position: int
    subject: str
    headers: dict[str, str]
    text: str | None = None
    binary: bytes | None = None

    @classmethod
    def of(cls, message: StoredMessage) -> EventLine:
        """The line for a message."""
        text, binary = None, None
        try:
            text = message.payload.decode()
        except UnicodeDecodeError:
            binary = message.payload
        return cls(
            position=message.sequence,
            subject=message.subject,
            headers=dict(message.headers),
            text=text,
            binary=binary,
        )

    @property
    def payload(self) -> bytes:
        """The payload's bytes."""
        return (self.text or "").encode() if self.binary is None else self.binary


class FileCheckpoint(msgspec.Struct, frozen=True, kw_only=True, tag_field="line", tag="checkpoint"):
    """The number of events so far, and the position of the last."""

    events: int
    position: int


class FileEnd(FileCheckpoint, frozen=True, kw_only=True, tag_field="line", tag="end"):
    """The end of a complete file."""


Line = FirstLine | EventLine | FileCheckpoint | FileEnd

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Line).decode


class FileSums:
    """The running checksum over a file's lines."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    @property
    def value(self) -> str:
        """The checksum so far: 64 hexadecimal digits."""
        return self._hash.hexdigest()

    def copy(self) -> FileSums:
        """An independent copy of the current state."""
        copied = FileSums()
        copied._hash = self._hash.copy()
        return copied

    def seal(self, line: Line) -> bytes:
        """Encode the next line with its checksum."""
        body = _encode(line)[:-1]
        return b'%b%b%b"}\n' % (body, _SUM, self._next(body, type(line)))

    def open(self, raw: bytes) -> Line:
        """Decode the next line, without its line break; raises `ValueError` if it is damaged."""
        body, _, end = raw.rpartition(_SUM)
        try:
            line: Line = _decode(raw)
        except UNDECODABLE as error:
            raise ValueError(f"it is not a line of an export: {error}") from error
        if end != self._next(body, type(line)) + b'"}':
            raise ValueError("its checksum does not match, or a line before it is missing")
        return line

    def _next(self, body: bytes, kind: type[Line]) -> bytes:
        if kind is FirstLine:
            return hashlib.sha256(body).hexdigest().encode()
        self._hash.update(body)
        return self.value[: _SHORT if kind is EventLine else None].encode()
