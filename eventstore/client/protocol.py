"""NATS's protocol: encoding and decoding of headers; a parser, three times faster than nats-py's.

nats-py matches several regular expressions for each message; this parser scans a buffer once. No
published message can end the read loop: the server passes on the bytes of headers and subjects
unchecked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import nats.protocol.parser
from nats.errors import ProtocolError

from eventstore.errors import InvalidHeader

_LINE_END = b"\r\n"
_VERSION = b"NATS/1.0"
_BEGIN = _VERSION + _LINE_END
_HEADER_LINES = re.compile(r"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+: [^\r\n]*\r\n)*")
_NAMES = re.compile(r"[!-9;-~]*")
_WHITESPACE = " \t\n\r\x0b\x0c"
_MAX_SHOWN = 60
_WITH_HEADERS = b"HMSG"
_MESSAGES = (b"MSG", _WITH_HEADERS)


class Parser(nats.protocol.parser.Parser):
    """Parses incoming bytes, and passes on complete messages; replaces nats-py's."""

    def reset(self) -> None:
        """Drop incomplete data: the bytes that follow are a new connection's."""
        self._parts: list[bytes] = []
        self._missing = 0

    async def parse(self, data: bytes = b"") -> None:
        """Parse the next bytes; raises `ProtocolError` for what no server sends."""
        self._parts.append(data)
        self._missing -= len(data)
        while self._missing <= 0:
            line = await self._messages()
            if line:
                await self._operation(line)

    async def _messages(self) -> bytes:
        """Pass on all messages up to another operation, and return its line, if any."""
        buffer = b"".join(self._parts)
        begin = 0
        while (end := buffer.find(_LINE_END, begin)) >= 0:
            # By spaces only: a subject may contain other bytes that Python treats as white space.
            words = buffer[begin:end].split(b" ")
            if b"" in words:
                words = [word for word in words if word]
            if not words or words[0] not in _MESSAGES:
                self._buffer(buffer[end + 2 :], 0)
                return buffer[begin:end] or _LINE_END
            try:
                verb, subject, sid, *reply, size = words
                payload = end + 2 + (int(reply.pop()) if verb == _WITH_HEADERS else 0)
                stop = end + 2 + int(size)
                number = int(sid)
            except (ValueError, IndexError):
                raise ProtocolError from None
            if len(buffer) < stop + 2:
                self._buffer(buffer[begin:], stop + 2 - len(buffer))
                return b""
            data, headers = buffer[payload:stop], buffer[end + 2 : payload]
            first = reply[0] if reply else b""
            rest = self.nc._process_msg(number, subject, first, data, headers)
            if rest is not None:
                await rest
            begin = stop + 2
        self._buffer(buffer[begin:], 1)
        return b""

    def _buffer(self, rest: bytes, missing: int) -> None:
        self._parts = [rest]
        self._missing = missing

    async def _operation(self, line: bytes) -> None:
        name, _, rest = line.partition(b" ")
        match name.strip():
            case b"PING":
                await self.nc._process_ping()
            case b"PONG":
                await self.nc._process_pong()
            case b"+OK":
                pass
            case b"-ERR":
                await self.nc._process_err(rest.strip().decode(errors="replace").lower())
            case b"INFO":
                await self.nc._process_info(json.loads(rest))
            case _:
                raise ProtocolError


class UnreadableHeaders(dict[str, str]):
    """The readable part of malformed headers; `problem` describes what is wrong."""

    def __init__(self, readable: Mapping[str, str], problem: str) -> None:
        super().__init__(readable)
        self.problem = problem


def check_headers(headers: Mapping[str, str] | None) -> None:
    """Raise `InvalidHeader` for headers that were received malformed."""
    if isinstance(headers, UnreadableHeaders):
        raise InvalidHeader("block", f"is malformed: {headers.problem}")


def read_headers(block: bytes) -> dict[str, str]:
    """Parse a block of headers, with the server's status as `Status`; never raises.

    Returns `UnreadableHeaders` for a malformed block. Of a repeated header, the last one counts.
    """
    if block.startswith(_BEGIN):
        return _read_lines(block[len(_BEGIN) :])
    line, end, rest = block.partition(_LINE_END)
    if not block:
        return {}
    if not end or not (line + b" ").startswith(_VERSION + b" "):
        problem = f"it begins with {_shown(line)}, not with a line of {_VERSION.decode()}"
        return UnreadableHeaders(_read_lines(block), problem)
    status, _, description = line[len(_VERSION) :].strip().partition(b" ")
    headers = _read_lines(rest)
    try:
        parsed = {"Status": status.decode("ascii"), "Description": description.decode()}
    except UnicodeError:
        return UnreadableHeaders(headers, f"its status is {_shown(line)}, which is not text")
    if not (status.isdigit() and len(status) == 3):
        return UnreadableHeaders(headers, f"its status is {_shown(line)}, which is not a number")
    headers.update({name: value for name, value in parsed.items() if value})
    return headers


def _read_lines(raw: bytes) -> dict[str, str]:
    """Parse lines of `Name: value`, up to an empty one; never raises, as `read_headers`.

    The headers are in the order of their lines.
    """
    try:
        *lines, empty, end = raw.decode().split("\r\n")
        pairs = [line.split(": ", 1) for line in lines]
        headers = {name: value.strip(_WHITESPACE) for name, value in pairs}
    except ValueError:
        return _read_one_by_one(raw)
    is_usual = not (empty or end) and len(headers) == len(lines) and "" not in headers
    return headers if is_usual and _NAMES.fullmatch("".join(headers)) else _read_one_by_one(raw)


def _read_one_by_one(raw: bytes) -> dict[str, str]:
    headers: dict[str, str] = {}
    is_ended = raw == _LINE_END or raw.endswith(2 * _LINE_END)
    problem = "" if is_ended else "it does not end with an empty line"
    for line in raw.removesuffix(_LINE_END).removesuffix(_LINE_END).split(_LINE_END):
        name, colon, value = line.partition(b":")
        text, value = name.decode("ascii", "replace"), value.strip()
        if not (colon and text and _NAMES.fullmatch(text)):
            # Names are not stripped: the server recognizes its own headers by the exact name.
            problem = problem or f"{_shown(line)} is not a header"
            continue
        headers.pop(text, None)  # the last one counts, in its own position
        headers[text] = value.decode(errors="replace")
        if headers[text].encode() != value:
            problem = problem or f"the value of {_shown(line)} is not UTF-8"
    return UnreadableHeaders(headers, problem) if problem else headers


def _shown(line: bytes) -> str:
    return repr(line[:_MAX_SHOWN])[1:]


Headers = Mapping[str, str] | str
"""Headers to be sent: by name, or as the lines that `header_lines` makes of them."""


def header_lines(headers: Mapping[str, str]) -> str:
    """The lines of headers; raises `InvalidHeader` for a name or value that cannot be sent."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    # The count too, because a value could contain a line break and another header after it.
    if lines.count("\r\n") != len(headers) or not _HEADER_LINES.fullmatch(lines):
        raise _bad_header(headers)
    return lines


def header_text(headers: Headers) -> str:
    """The block of headers; raises what `header_lines` raises. Lines are not checked again."""
    lines = headers if isinstance(headers, str) else header_lines(headers)
    return f"NATS/1.0\r\n{lines}\r\n"


def header_block(headers: Headers) -> bytes:
    """The same encoded."""
    return header_text(headers).encode()


def _bad_header(headers: Mapping[str, str]) -> InvalidHeader:
    for name in headers:
        if not name or not _HEADER_LINES.fullmatch(f"{name}: \r\n"):
            return InvalidHeader(repr(name), "has a name that is not allowed")
    broken = next(name for name, value in headers.items() if "\r" in value or "\n" in value)
    return InvalidHeader(broken, "has a line break in its value")
