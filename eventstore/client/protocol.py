"""NATS's protocol: headers as they are sent; and reading, in a third of nats-py's time.

nats-py tries one pattern after another on what is left after each message; here a buffer is gone
through once. And nothing that somebody may publish ends the reading: the server passes on headers
and subjects as they were sent, whatever bytes they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import nats.protocol.parser
from nats.errors import ProtocolError

from eventstore.errors import InvalidHeader

__all__ = ["Parser", "UnreadableHeaders", "check_headers", "header_block", "read_headers"]

_LINE_END = b"\r\n"
_VERSION = b"NATS/1.0"
_BEGIN = _VERSION + _LINE_END
_HEADER_LINES = re.compile(r"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+: [^\r\n]*\r\n)*")
_NAMES = re.compile(r"[!-9;-~]*")
_WHITESPACE = " \t\n\r\x0b\x0c"
_LONGEST_SHOWN = 60
_WITH_HEADERS = b"HMSG"
_MESSAGES = (b"MSG", _WITH_HEADERS)


class Parser(nats.protocol.parser.Parser):
    """Takes bytes as they come in, and hands on what is whole; takes the place of nats-py's."""

    def reset(self) -> None:
        """Forget what is not whole: the bytes that follow are a new connection's."""
        self._parts: list[bytes] = []
        self._missing = 0

    async def parse(self, data: bytes = b"") -> None:
        """Take the bytes that follow; raises `ProtocolError` for what no server sends."""
        self._parts.append(data)
        self._missing -= len(data)
        while self._missing <= 0:
            line = await self._messages()
            if line:
                await self._operation(line)

    async def _messages(self) -> bytes:
        """Hand on all messages up to another operation, and return that one's line, if any."""
        buffer = b"".join(self._parts)
        begin = 0
        while (end := buffer.find(_LINE_END, begin)) >= 0:
            # By spaces only, for a subject may hold other bytes that Python takes for white space.
            words = buffer[begin:end].split(b" ")
            if b"" in words:
                words = [word for word in words if word]
            if not words or words[0] not in _MESSAGES:
                self._keep(buffer[end + 2 :], 0)
                return buffer[begin:end] or _LINE_END
            try:
                verb, subject, sid, *reply, size = words
                payload = end + 2 + (int(reply.pop()) if verb == _WITH_HEADERS else 0)
                stop = end + 2 + int(size)
                number = int(sid)
            except (ValueError, IndexError):
                raise ProtocolError from None
            if len(buffer) < stop + 2:
                self._keep(buffer[begin:], stop + 2 - len(buffer))
                return b""
            data, headers = buffer[payload:stop], buffer[end + 2 : payload]
            await self.nc._process_msg(number, subject, b"".join(reply), data, headers)
            begin = stop + 2
        self._keep(buffer[begin:], 1)
        return b""

    def _keep(self, rest: bytes, missing: int) -> None:
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
    """What could be read of headers that are malformed; `problem` says what is wrong with them."""

    def __init__(self, readable: Mapping[str, str], problem: str) -> None:
        super().__init__(readable)
        self.problem = problem


def check_headers(headers: Mapping[str, str] | None) -> None:
    """Raise `InvalidHeader` for headers that came malformed, whatever could be read of them."""
    if isinstance(headers, UnreadableHeaders):
        raise InvalidHeader("block", f"is malformed: {headers.problem}")


def read_headers(block: bytes) -> dict[str, str]:
    """The headers in a block as it is sent, with the server's status as `Status`; never raises.

    What is malformed is told by the `UnreadableHeaders` that are returned then. Of a header that
    is there twice, the last one counts.
    """
    if block.startswith(_BEGIN):
        return _read_lines(block[len(_BEGIN) :])
    line, end, rest = block.partition(_LINE_END)
    if not block:
        return {}
    if not end or not (line + b" ").startswith(_VERSION + b" "):
        problem = f"it begins with {_shown(line)}, and not with a line of {_VERSION.decode()}"
        return UnreadableHeaders(_read_lines(block), problem)
    status, _, description = line[len(_VERSION) :].strip().partition(b" ")
    headers = _read_lines(rest)
    try:
        told = {"Status": status.decode("ascii"), "Description": description.decode()}
    except UnicodeError:
        return UnreadableHeaders(headers, f"its status is {_shown(line)}, which is no text")
    if not (status.isdigit() and len(status) == 3):
        return UnreadableHeaders(headers, f"its status is {_shown(line)}, which is no number")
    headers.update({name: value for name, value in told.items() if value})
    return headers


def _read_lines(raw: bytes) -> dict[str, str]:
    """The headers in lines of `Name: value`; never raises, and tells as `read_headers` does.

    They are in the order of their lines, an empty one of which ends them.
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
            # Nothing is taken off a name: the server knows its own headers by the exact one.
            problem = problem or f"{_shown(line)} is no header"
            continue
        headers.pop(text, None)  # the last one counts, and stands in its place
        headers[text] = value.decode(errors="replace")
        if headers[text].encode() != value:
            problem = problem or f"the value of {_shown(line)} is no text in UTF-8"
    return UnreadableHeaders(headers, problem) if problem else headers


def _shown(line: bytes) -> str:
    return repr(line[:_LONGEST_SHOWN])[1:]


def header_block(headers: Mapping[str, str]) -> bytes:
    """The headers as they are sent; raises `InvalidHeader` for a name or value that cannot be."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    # The count too, because a value could hold a line break and a whole header after it.
    if lines.count("\r\n") != len(headers) or not _HEADER_LINES.fullmatch(lines):
        raise _bad_header(headers)
    return f"NATS/1.0\r\n{lines}\r\n".encode()


def _bad_header(headers: Mapping[str, str]) -> InvalidHeader:
    for name in headers:
        if not name or not _HEADER_LINES.fullmatch(f"{name}: \r\n"):
            return InvalidHeader(repr(name), "has a name that is not allowed")
    broken = next(name for name, value in headers.items() if "\r" in value or "\n" in value)
    return InvalidHeader(broken, "has a line break in its value")
