"""The protocol parser agrees with nats-py's, however the bytes are split."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import msgspec
import nats.protocol.parser
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from nats.errors import ProtocolError

from eventstore.client.protocol import Parser, UnreadableHeaders, check_headers, read_headers
from eventstore.errors import InvalidHeader


class Reader:
    """Records what the parser passes on."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None
    ) -> None:
        self.heard.append((sid, subject, reply, data, headers or b""))

    async def _process_err(self, err_msg: str) -> None:
        self.heard.append(("error", err_msg))

    async def _process_ping(self) -> None:
        self.heard.append(("ping",))

    async def _process_pong(self) -> None:
        self.heard.append(("pong",))

    async def _process_info(self, info: dict[str, Any]) -> None:
        self.heard.append(("info", info))


def _message(subject: str, reply: str, headers: bytes, payload: bytes) -> bytes:
    to = f"{subject} 7 {reply} " if reply else f"{subject} 7 "
    sizes = f"{len(headers)} {len(headers) + len(payload)}" if headers else f"{len(payload)}"
    verb = "HMSG" if headers else "MSG"
    return f"{verb} {to}{sizes}\r\n".encode() + headers + payload + b"\r\n"


lines = st.sampled_from(
    [b"PING\r\n", b"PONG\r\n", b"+OK\r\n", b"-ERR 'Slow Down'\r\n", b'INFO {"a": [1]}\r\n']
)
messages = st.builds(
    _message,
    st.sampled_from(["a", "a.b-c", "$JS.x"]),
    st.sampled_from(["", "_INBOX.1", "$JS.ACK.1"]),
    st.sampled_from([b"", b"NATS/1.0 503\r\n\r\n", b"NATS/1.0\r\nA: b\r\n\r\n"]),
    st.sampled_from([b"", b"x", b"\r\n", b"PING\r\n", b"MSG a 1 2\r\nok\r\n", bytes(300)]),
)


async def _heard(kind: type[nats.protocol.parser.Parser], pieces: Sequence[bytes]) -> list[Any]:
    reader = Reader()
    parser = kind(reader)
    for piece in pieces:
        await parser.parse(piece)
    return reader.heard


@given(st.lists(lines | messages), st.lists(st.integers(0, 2000)))
async def test_parses_what_nats_py_parses_at_any_split(
    operations: list[bytes], cuts: list[int]
) -> None:
    stream = b"".join(operations)
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[a:b] for a, b in pairwise(places)]
    heard = await _heard(Parser, pieces)
    assert heard == await _heard(nats.protocol.parser.Parser, [stream])
    assert len(heard) == len([each for each in operations if each != b"+OK\r\n"])


@pytest.mark.parametrize(
    "line", [b"HELLO", b"", b"MSG", b"MSG a 1", b"MSG a b 3", b"HMSG a 1 x 3", b"PINGS"]
)
async def test_what_no_server_sends_is_refused(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        await Parser(Reader()).parse(line + b"\r\n")


async def test_incomplete_data_is_dropped_with_its_connection() -> None:
    reader = Reader()
    parser = Parser(reader)
    await parser.parse(b"MSG a 1 10\r\nhalf")
    parser.reset()
    await parser.parse(b"PING\r\n")
    assert reader.heard == [("ping",)]


BLOCKS = st.one_of(
    st.binary(max_size=200),
    st.builds(
        lambda start, lines, end: start + b"\r\n".join(lines) + end,
        st.sampled_from(
            [b"", b"NATS/1.0", b"NATS/1.0\r\n", b"NATS/1.0 ", b"NATS/1.0 503", b"\r\n"]
        ),
        st.lists(
            st.binary(max_size=20) | st.sampled_from([b"A: 1", b"A:2", b": x", b"B", b"\xff: y"])
        ),
        st.sampled_from([b"", b"\r\n", b"\r\n\r\n"]),
    ),
)


@given(BLOCKS)
@example(b"NATS/1.0")
@example(b"\r\n\r\n")
@example(b"NATS/1.0\r\n\r\n")
@example(b"NATS/1.0 \xff\xfe\r\n\r\n")
@example(b"NATS/1.0 503 \xff\r\n\r\n")
@example(b"")
def test_headers_of_any_bytes_are_parsed_and_can_be_stored(block: bytes) -> None:
    headers = read_headers(block)
    assert all(isinstance(each, str) for pair in headers.items() for each in pair)
    assert msgspec.json.decode(msgspec.json.encode(dict(headers))) == headers
    if isinstance(headers, UnreadableHeaders):
        assert headers.problem
        with pytest.raises(InvalidHeader, match="malformed"):
            check_headers(headers)


@given(st.dictionaries(st.text("abcXYZ-", min_size=1), st.text("abc: xyzäöü")), st.booleans())
def test_well_formed_headers_are_never_called_malformed(
    headers: dict[str, str], spaced: bool
) -> None:
    colon = ": " if spaced else ":"
    lines = "".join(f"{name}{colon}{value}\r\n" for name, value in headers.items())
    read = read_headers(f"NATS/1.0\r\n{lines}\r\n".encode())
    assert read == {name: value.strip() for name, value in headers.items()}
    check_headers(read)


@pytest.mark.parametrize(
    ("lines", "headers"),
    [
        (b"A : 1\r\nB: 2\r\n\r\n", {"B": "2"}),
        (b" A: 1\r\nB: 2\r\n\r\n", {"B": "2"}),
        (b"A\t: 1\r\nB: 2\r\n\r\n", {"B": "2"}),
        (b"\x0bA: 1\r\nB\x00: 2\r\n\r\n", {}),
        (b"A: 1\r\nB: 2\r\n", {"A": "1", "B": "2"}),
        (b"A: 1\r\nB: 2", {"A": "1", "B": "2"}),
        (b"A: 1\r\n\r\nB: 2\r\n\r\n", {"A": "1", "B": "2"}),
        (b"A: 1\r\n\r\n\r\n", {"A": "1"}),
        (b"", {}),
    ],
)
def test_malformed_headers_are_reported_and_names_are_exact(
    lines: bytes, headers: dict[str, str]
) -> None:
    read = read_headers(b"NATS/1.0\r\n" + lines)
    assert isinstance(read, UnreadableHeaders)
    assert dict(read) == headers


def test_the_last_of_repeated_headers_counts_in_its_own_position() -> None:
    read = read_headers(b"NATS/1.0\r\nA: 1\r\nB: 2\r\nA:3\r\n\r\n")
    check_headers(read)
    assert list(read.items()) == [("B", "2"), ("A", "3")]


@pytest.mark.parametrize(
    ("block", "headers"),
    [
        (b"NATS/1.0 503\r\n\r\n", {"Status": "503"}),
        (b"NATS/1.0 404 No Messages\r\n\r\n", {"Status": "404", "Description": "No Messages"}),
        (
            b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 7\r\n\r\n",
            {"Status": "100", "Description": "Idle Heartbeat", "Nats-Last-Consumer": "7"},
        ),
        (b"NATS/1.0 204 EOB\r\nNats-Num-Pending: 0\r\n\r\n", None),
    ],
)
def test_the_servers_statuses_are_read(block: bytes, headers: dict[str, str] | None) -> None:
    read = read_headers(block)
    check_headers(read)
    assert headers is None or read == headers
    assert read["Status"].isdecimal()


@given(st.binary(min_size=1, max_size=20).filter(lambda each: not {*each} & {*b" \n"}))
@example(b"a\x0bb")
@example(b"a\rb")
@example(b"\xff\xfe")
async def test_a_subject_of_any_bytes_is_read(subject: bytes) -> None:
    reader = Reader()
    await Parser(reader).parse(b"MSG %b 7 2\r\nok\r\nPING\r\n" % subject)
    assert reader.heard == [(7, subject, b"", b"ok", b""), ("ping",)]
