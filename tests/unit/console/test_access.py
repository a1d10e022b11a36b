"""Who a visitor is, and what proves it."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.requests import Request

from eventstore.config import ConsoleSettings
from eventstore.console import access
from eventstore.console.access import Access, cookie_name
from eventstore.console.security import host_of
from eventstore.errors import ConfigurationError

TOKEN = "0123456789abcdefghij"  # noqa: S105


def request(cookie: str = "", **headers: str) -> Request:
    given = {"host": "localhost:8480", **headers}
    lines = [(name.encode(), value.encode()) for name, value in given.items()]
    if cookie:
        lines.append((b"cookie", f"{cookie_name(_request(lines))}={cookie}".encode()))
    return _request(lines)


def _request(lines: list[tuple[bytes, bytes]]) -> Request:
    server = ("localhost", 8480)
    return Request(
        {"type": "http", "scheme": "http", "path": "/", "server": server, "headers": lines}
    )


def with_tokens(folder: Path, text: str) -> Access:
    file = folder / "tokens"
    file.write_text(text, encoding="utf-8")
    return Access(ConsoleSettings(tokens_file=file))


def test_without_logins_everybody_is_local_and_only_looks() -> None:
    visitor = Access(ConsoleSettings()).visitor(request())

    assert visitor is not None
    assert (visitor.name, visitor.may_act, visitor.sees_personal) == ("local", False, False)


@pytest.mark.parametrize("names", [("local",), ("*",), ("ann", "local")])
def test_rights_are_those_of_the_settings(names: tuple[str, ...]) -> None:
    visitor = Access(ConsoleSettings(operators=names, personal=("ann",))).visitor(request())

    assert visitor is not None
    assert (visitor.may_act, visitor.sees_personal) == (True, False)


def test_a_session_is_known_until_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = with_tokens(tmp_path, f"ann {TOKEN}\n")
    cookie = own.new_session("ann")
    assert own.name_of(TOKEN) == "ann"
    assert own.name_of(TOKEN[:-1]) is None
    assert own.visitor(request(cookie)) is not None
    assert own.visitor(request(own.new_session("bob"))) is None
    monkeypatch.setattr(access, "SESSION_SECONDS", -1)
    assert own.visitor(request(own.new_session("ann"))) is None


@pytest.mark.parametrize("forged", ["", ".", "x.y", "e30=.", "é.ü", "a" * 5_000])
def test_a_forged_cookie_is_nobodys(tmp_path: Path, forged: str) -> None:
    own = with_tokens(tmp_path, f"ann {TOKEN}\n")
    body = own.new_session("ann").partition(".")[0]

    assert own.session_nonce(forged) == ""
    assert own.session_nonce(f"{body}.{'0' * 64}") == ""


def test_a_session_of_another_process_is_not_valid(tmp_path: Path) -> None:
    one, other = (with_tokens(tmp_path, f"ann {TOKEN}\n") for _ in range(2))

    assert other.visitor(request(one.new_session("ann"))) is None


def test_a_form_belongs_to_its_session() -> None:
    own = Access(ConsoleSettings())
    one, other = (own.session_nonce(own.new_session()) for _ in range(2))

    assert own.is_form_token(own.form_token(one), one)
    assert not own.is_form_token(own.form_token(one), other)
    assert not own.is_form_token(own.form_token(""), "")
    assert not own.is_form_token("ü", one)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "has no token"),
        ("ann", "write a name, a space and a token"),
        ("ann short", "is shorter than 20"),
        (f"ann {TOKEN} x", "write a name, a space and a token"),
        (f"ann {TOKEN}\nbob {TOKEN}", "line 2: another name has the same token"),
    ],
)
def test_a_file_of_tokens_that_cannot_be_used_is_refused(
    tmp_path: Path, text: str, problem: str
) -> None:
    with pytest.raises(ConfigurationError, match=problem) as raised:
        with_tokens(tmp_path, text)

    assert TOKEN not in str(raised.value)


@pytest.mark.parametrize(
    ("value", "host"),
    [
        ("localhost:8480", "localhost"),
        ("LOCALHOST", "localhost"),
        ("127.0.0.1:1", "127.0.0.1"),
        ("[::1]:8480", "::1"),
        ("[::1]", "::1"),
        ("::1", "::1"),
        ("", ""),
    ],
)
def test_the_host_is_read_without_its_port(value: str, host: str) -> None:
    assert host_of(value) == host
