from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import nkeys  # type: ignore[import-untyped]
import pytest

from eventstore.client.credentials import connect_options, requires_tls, url_credentials
from eventstore.config import AuthSettings, NatsSettings, RetrySettings, Secret, TlsSettings
from eventstore.config import Settings as AllSettings
from eventstore.errors import ConfigurationError

SEED = bytes(nkeys.encode_seed(b"\x01" * 32, nkeys.PREFIX_BYTE_USER))
CREDENTIALS = b"""
-----BEGIN NATS USER JWT-----
the.users.jwt
------END NATS USER JWT------

-----BEGIN USER NKEY SEED-----
%s
------END USER NKEY SEED------
"""


def at(url: str) -> NatsSettings:
    return AllSettings().with_url(url).nats


def refusal(settings: NatsSettings) -> str:
    with pytest.raises(ConfigurationError) as caught:
        connect_options(settings)
    return str(caught.value)


def test_the_connection_itself() -> None:
    retry = RetrySettings(max_reconnects=7, connect_timeout_ms=1_500)
    options = connect_options(NatsSettings(retry=retry))
    assert options["servers"] == ["nats://127.0.0.1:4222"]
    assert options["connect_timeout"] == 1.5
    assert options["allow_reconnect"] is True
    assert options["max_reconnect_attempts"] == 7
    assert options["pending_size"] == -1


def test_no_reconnects() -> None:
    options = connect_options(NatsSettings(retry=RetrySettings(max_reconnects=0)))
    assert options["allow_reconnect"] is False


@pytest.mark.parametrize(
    ("auth", "options"),
    [
        (
            AuthSettings(user="ann", password=Secret("pw")),
            {"user": "ann", "password": "pw"},
        ),
        (AuthSettings(token=Secret("t")), {"token": "t"}),
    ],
)
def test_users_and_tokens(auth: AuthSettings, options: dict[str, str]) -> None:
    assert options.items() <= connect_options(NatsSettings(auth=auth)).items()


USER = {"user": "ann", "password": "p@w", "token": None}
TOKEN = {"user": None, "password": None, "token": "t/1"}


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("nats://a", {}),
        ("nats://ann:p%40w@a", USER),
        ("nats://ann:p%40w@a,nats://ann:p%40w@b", USER),
        ("nats://ann:p%40w@a,nats://b", USER),
        ("nats://a,tls://ann:p%40w@[::1]:4222", USER),
        ("nats://ann:p%40w@a,nats://bob:pw@b", USER),
        ("wss://t%2F1@a", TOKEN),
        ("nats://t%2F1@a,nats://ann:pw@b", TOKEN),
    ],
)
def test_the_first_credentials_in_urls_are_for_all_servers_without_any(
    url: str, options: dict[str, str | None]
) -> None:
    given = connect_options(at(url))
    assert {key: given[key] for key in ("user", "password", "token") if key in given} == options


@pytest.mark.parametrize(
    ("url", "user", "password"),
    [
        ("nats://ann@[::1]:4222", None, None),
        ("nats://ann:@a", "ann", ""),
        ("nats://%C3%A4:%3A%2F%3F%23%5B%5D%40%25%2C%20%2B@a", "ä", ":/?#[]@%, +"),
        ("nats://ann:a+b@a", "ann", "a+b"),
        ("nats://ann:100%25@a", "ann", "100%"),
    ],
)
def test_percent_signs_in_urls_are_decoded(
    url: str, user: str | None, password: str | None
) -> None:
    found = url_credentials(urlsplit(url))
    assert (found["user"], found["password"]) == (user, password)


def test_an_nkey_seed(tmp_path: Path) -> None:
    file = tmp_path / "seed"
    file.write_bytes(SEED + b"\n")
    options = connect_options(NatsSettings(auth=AuthSettings(nkey_seed_file=file)))
    assert options["nkeys_seed"] == str(file)


@pytest.mark.parametrize("content", [b"", b"nonsense", SEED[:-4], b"\xff"])
def test_an_invalid_nkey_seed_is_refused_and_not_shown(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "seed"
    file.write_bytes(content)
    settings = NatsSettings(auth=AuthSettings(nkey_seed_file=file))
    assert refusal(settings) == f"{file} contains no nkey seed"


def test_a_credentials_file_is_read_at_each_connect(tmp_path: Path) -> None:
    file = tmp_path / "user.creds"
    file.write_bytes(CREDENTIALS % SEED)
    options = connect_options(NatsSettings(auth=AuthSettings(credentials_file=file)))
    assert options["user_jwt_cb"]() == b"the.users.jwt"
    assert options["signature_cb"]("nonce")
    file.write_bytes((CREDENTIALS % SEED).replace(b"the.users.jwt", b"a.newer.one"))
    assert options["user_jwt_cb"]() == b"a.newer.one"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "does not contain both a user JWT and an nkey seed"),
        (
            (CREDENTIALS % SEED).split(b"\n\n")[0],
            "does not contain both a user JWT and an nkey seed",
        ),
        (CREDENTIALS % b"nonsense", "contains no nkey seed"),
    ],
)
def test_an_invalid_credentials_file_is_refused(
    tmp_path: Path, content: bytes, problem: str
) -> None:
    file = tmp_path / "user.creds"
    file.write_bytes(content)
    settings = NatsSettings(auth=AuthSettings(credentials_file=file))
    assert refusal(settings) == f"{file} {problem}"


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    settings = NatsSettings(auth=AuthSettings(credentials_file=tmp_path / "none"))
    assert refusal(settings) == f"{tmp_path}/none cannot be read: No such file or directory"


def test_an_invalid_certificate_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("nonsense")
    message = refusal(NatsSettings(tls=TlsSettings(ca_file=file)))
    assert message.startswith(f"the TLS files {file} cannot be used: ")


@pytest.mark.parametrize(
    ("settings", "required"),
    [
        (NatsSettings(), False),
        (at("nats://a"), False),
        (at("tls://a"), True),
        (at("wss://a"), True),
        (NatsSettings(tls=TlsSettings(server_name="a")), True),
        (NatsSettings(tls=TlsSettings(handshake_first=True)), True),
    ],
)
def test_when_tls_is_required(settings: NatsSettings, required: bool) -> None:
    assert requires_tls(settings) is required
