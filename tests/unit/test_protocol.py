"""The protocol's parser reads what nats-py's reads, however the bytes come in."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import nats.protocol.parser
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.errors import ProtocolError

from eventstore.protocol import Parser


class Reader:
    """Notes what it is told."""

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
async def test_reads_what_nats_py_reads_wherever_it_is_cut(
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


async def test_what_is_not_whole_is_forgotten_with_its_connection() -> None:
    reader = Reader()
    parser = Parser(reader)
    await parser.parse(b"MSG a 1 10\r\nhalf")
    parser.reset()
    await parser.parse(b"PING\r\n")
    assert reader.heard == [("ping",)]
