from __future__ import annotations

import nats.aio.client
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats import errors

from eventstore.client.connection import nats_errors
from eventstore.client.protocol import read_headers
from eventstore.errors import (
    AuthenticationFailed,
    ClientError,
    ConnectFailed,
    ConnectionLost,
    InvalidHeader,
    InvalidMessage,
    InvalidSubject,
    NoResponders,
    RequestTimeout,
)

names = st.text(st.sampled_from("abcXYZ019-_.!"), min_size=1, max_size=10)
values = st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), max_size=20)


@given(st.dictionaries(names, values))
def test_headers_are_read_as_nats_py_reads_them(headers: dict[str, str]) -> None:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    raw = f"{lines}\r\n".encode()
    expected = nats.aio.client.Client._parse_header_lines(raw)
    assert read_headers(b"NATS/1.0\r\n" + raw) == expected


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (errors.TimeoutError(), RequestTimeout),
        (errors.FlushTimeoutError(), RequestTimeout),
        (TimeoutError(), RequestTimeout),
        (errors.AuthorizationError(), AuthenticationFailed),
        (errors.NoServersError(), ConnectFailed),
        (errors.NoRespondersError(), NoResponders),
        (errors.BadSubjectError(), InvalidSubject),
        (errors.MaxPayloadError(), InvalidMessage),
        (errors.ConnectionClosedError(), ConnectionLost),
        (errors.ConnectionDrainingError(), ConnectionLost),
        (errors.ConnectionReconnectingError(), ConnectionLost),
        (errors.OutboundBufferLimitError(), ConnectionLost),
        (errors.UnexpectedEOF(), ConnectionLost),
        (ConnectionResetError("reset"), ConnectionLost),
        (errors.ProtocolError(), ClientError),
    ],
)
def test_nats_errors_become_ours(error: Exception, ours: type[ClientError]) -> None:
    with pytest.raises(ours) as caught, nats_errors("greet"):
        raise error
    assert type(caught.value) is ours
    assert str(caught.value).startswith("greet: ")
    assert caught.value.__cause__ is error


def test_other_errors_stay_as_they_are() -> None:
    with pytest.raises(InvalidHeader), nats_errors("greet"):
        raise InvalidHeader("X", "is odd")
    with pytest.raises(ZeroDivisionError), nats_errors("greet"):
        raise ZeroDivisionError
