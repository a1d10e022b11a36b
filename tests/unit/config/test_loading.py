from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore.config import (
    DEFAULT_URL,
    Address,
    AuthSettings,
    NatsSettings,
    RetrySettings,
    Secret,
    ServiceSettings,
    Settings,
    TlsSettings,
    load_settings,
    redacted_url,
)
from eventstore.errors import ConfigurationError

WriteToml = Callable[[str], Path]


@pytest.fixture
def toml(tmp_path: Path) -> WriteToml:
    def write(text: str) -> Path:
        path = tmp_path / "eventstore.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def refusal(path: Path | None = None, **environ: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(path, environ)
    return str(caught.value)


def test_the_defaults() -> None:
    settings = load_settings(None, {})
    assert settings == Settings()
    assert settings.nats.url == ()
    assert settings.nats.servers == (DEFAULT_URL,)
    assert settings.nats.subject_prefix is None
    assert settings.nats.retry == RetrySettings(
        max_reconnects=-1,
        reconnect_delay_ms=250,
        max_reconnect_delay_ms=10_000,
        reconnect_jitter_ms=100,
        connect_timeout_ms=5_000,
    )
    assert settings.nats.service == ServiceSettings()
    assert (settings.streams.replicas, settings.streams.compression) == (1, False)
    assert settings.streams.duplicate_window_ms == 120_000
    assert settings.streams.event_max_age_days == 7
    assert settings.read_model.database == "./var/read_model.sqlite"


def test_everything_can_be_set_in_the_file(toml: WriteToml, tmp_path: Path) -> None:
    for name in ("ca.pem", "cert.pem", "key.pem"):
        (tmp_path / name).touch()
    path = toml(
        f"""
        [nats]
        url = ["nats://a:4222", "nats://b:4222"]
        subject_prefix = "shop"
        inbox_prefix = "_INBOX_c.shop"
        api_prefix = "$JS.hub.API"
        reply_prefixes = ["_INBOX_c", "_INBOX_d"]
        [nats.auth]
        user = "ann"
        password = "pw"
        [nats.tls]
        ca_file = "{tmp_path}/ca.pem"
        cert_file = "{tmp_path}/cert.pem"
        key_file = "{tmp_path}/key.pem"
        server_name = "nats.example"
        handshake_first = true
        [nats.retry]
        max_reconnects = 3
        reconnect_delay_ms = 1
        max_reconnect_delay_ms = 2
        reconnect_jitter_ms = 0
        connect_timeout_ms = 4
        [nats.service]
        name = "shop"
        version = "1.2.3-rc.1"
        description = "A shop"
        [streams]
        replicas = 3
        compression = true
        duplicate_window_ms = 100
        event_max_age_days = 30
        outcome_max_age_days = 2
        [read_model]
        database = "shop.sqlite"
        """
    )
    settings = load_settings(path, {})
    assert settings.nats == NatsSettings(
        url=(Address("nats://a:4222"), Address("nats://b:4222")),
        subject_prefix="shop",
        inbox_prefix="_INBOX_c.shop",
        api_prefix="$JS.hub.API",
        reply_prefixes=("_INBOX_c", "_INBOX_d"),
        auth=AuthSettings(user="ann", password=Secret("pw")),
        tls=TlsSettings(
            ca_file=tmp_path / "ca.pem",
            cert_file=tmp_path / "cert.pem",
            key_file=tmp_path / "key.pem",
            server_name="nats.example",
            handshake_first=True,
        ),
        retry=RetrySettings(
            max_reconnects=3,
            reconnect_delay_ms=1,
            max_reconnect_delay_ms=2,
            reconnect_jitter_ms=0,
            connect_timeout_ms=4,
        ),
        service=ServiceSettings(name="shop", version="1.2.3-rc.1", description="A shop"),
    )
    assert settings.streams.replicas == 3
    assert settings.streams.compression is True
    assert settings.streams.outcome_max_age_days == 2
    assert settings.read_model.database == "shop.sqlite"


def test_the_environment_wins_over_the_file_key_by_key(toml: WriteToml) -> None:
    path = toml('[nats.auth]\nuser = "ann"\npassword = "old"\n[read_model]\ndatabase = "file"')
    settings = load_settings(path, {"NATS_PASSWORD": "new", "EVENTSTORE_DATABASE": "environment"})
    assert (settings.nats.auth.user, settings.nats.auth.password) == ("ann", "new")
    assert settings.read_model.database == "environment"


def test_the_command_line_wins_over_all(toml: WriteToml) -> None:
    path = toml('[nats]\nurl = "nats://file"\n[read_model]\ndatabase = "file"')
    environ = {"NATS_URL": "nats://environment", "EVENTSTORE_DATABASE": "environment"}
    settings = load_settings(path, environ, nats_url="nats://line", database="line")
    assert settings.nats.servers == ("nats://line",)
    assert settings.read_model.database == "line"


@pytest.mark.parametrize(
    ("variable", "kind"),
    [("NATS_CREDS", "credentials_file"), ("NATS_NKEY_SEED_FILE", "nkey_seed_file")],
)
def test_files_of_credentials_from_the_environment(
    tmp_path: Path, variable: str, kind: str
) -> None:
    file = tmp_path / "secret"
    file.touch()
    assert getattr(load_settings(None, {variable: str(file)}).nats.auth, kind) == file


def test_a_token_from_the_environment() -> None:
    assert load_settings(None, {"NATS_TOKEN": "t"}).nats.auth.token == "t"  # noqa: S105


def test_prefixes_from_the_environment() -> None:
    settings = load_settings(
        None,
        {
            "NATS_INBOX_PREFIX": "_INBOX_c.ann",
            "NATS_API_PREFIX": "JSS.API",
            "NATS_REPLY_PREFIXES": "_INBOX_c, _INBOX_d",
        },
    )
    assert settings.nats.inbox_prefix == "_INBOX_c.ann"
    assert settings.nats.api_prefix == "JSS.API"
    assert settings.nats.reply_prefixes == ("_INBOX_c", "_INBOX_d")


def test_an_empty_variable_counts_as_not_set() -> None:
    assert load_settings(None, {"NATS_URL": "", "EVENTSTORE_CONFIG": ""}) == Settings()


def test_the_environment_may_name_the_file(toml: WriteToml) -> None:
    path = toml("[streams]\nreplicas = 5")
    assert load_settings(None, {"EVENTSTORE_CONFIG": str(path)}).streams.replicas == 5


def test_a_url_may_list_servers() -> None:
    settings = load_settings(None, {"NATS_URL": "nats://a:1, tls://b:2"})
    assert settings.nats.servers == ("nats://a:1", "tls://b:2")


def test_the_url_can_be_replaced() -> None:
    settings = Settings().with_url("nats://h:1")
    assert settings.nats.servers == ("nats://h:1",)
    with pytest.raises(ConfigurationError, match="url: 'h:1' must start with"):
        settings.with_url("h:1")


def test_a_missing_file_is_named_and_who_asked_for_it(tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    assert refusal(path) == f"{path} cannot be read: No such file or directory"
    assert "(named by EVENTSTORE_CONFIG)" in refusal(None, EVENTSTORE_CONFIG=str(path))


def test_malformed_toml_is_named_with_its_line(toml: WriteToml) -> None:
    path = toml("[nats]\nurl = \n")
    assert refusal(path).startswith(f"{path} is not TOML: ")
    assert "line 2" in refusal(path)


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "binary.toml"
    path.write_bytes(b"\xff\xfe")
    assert "is not TOML" in refusal(path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[nats]\nsubject_prefx = 1", "nats.subject_prefx is not known; did you mean nats.subj"),
        ("[nats.retrys]\nx = 1", "nats.retrys is not known; did you mean nats.retry?"),
        ("[zzzzzzzz]", "zzzzzzzz is not known"),
        ("[nats]\nretry = 3", "nats.retry is a table: write [nats.retry]"),
        ("[nats]\nurl = 3", "nats.url: Expected `array`, got `int`"),
        ("[nats]\nurl = [3]", "nats.url: Expected `str`, got `int`"),
        ("[nats]\nurl = []", "nats.url: names no server"),
        ('[nats]\nurl = ""', "nats.url: is empty"),
        ('[nats]\nsubject_prefix = "A b"', "nats.subject_prefix: subject prefix 'A b' is not"),
        (
            '[nats]\ninbox_prefix = "_INBOX.>"',
            "nats.inbox_prefix: '_INBOX.>' is not a prefix for inb",
        ),
        (
            '[nats]\ninbox_prefix = "_INBOX."',
            "nats.inbox_prefix: '_INBOX.' is not a prefix for inbox",
        ),
        ('[nats]\ninbox_prefix = "$JS"', "nats.inbox_prefix: '$JS' is not a prefix for inboxes"),
        ('[nats]\ninbox_prefix = "health.x"', "'health.x' is not a prefix for inboxes: health is"),
        (
            '[nats]\nsubject_prefix = "nix"\ninbox_prefix = "nix.x"',
            "nats.inbox_prefix: inboxes may not be below nix, whic",
        ),
        (
            '[nats]\nsubject_prefix = "nix"\nreply_prefixes = ["a", "nix"]',
            "nats.reply_prefixes: inboxes may not be below",
        ),
        ('[nats]\nreply_prefixes = ["*"]', "nats.reply_prefixes: '*' is not a prefix for inboxes"),
        (
            '[nats]\napi_prefix = "$JS.API."',
            "nats.api_prefix: '$JS.API.' is not a prefix of JetStr",
        ),
        ('[nats]\napi_prefix = "$JS.*"', "nats.api_prefix: '$JS.*' is not a prefix of JetStream's"),
        ("[nats.auth]\npassword = 3", "nats.auth.password: Expected `str`, got `int`"),
        ('[nats.auth]\ntoken = ""', "nats.auth.token: is empty"),
        ('[nats.auth]\nuser = ""', "nats.auth.user: Expected `str` of length >= 1"),
        ('[nats.tls]\nserver_name = ""', "nats.tls.server_name: Expected `str` of length >= 1"),
        ('[nats.tls]\nhandshake_first = "y"', "nats.tls.handshake_first: Expected `bool`"),
        ("[nats.retry]\nmax_reconnects = -2", "nats.retry.max_reconnects: Expected `int` >= -1"),
        ("[nats.retry]\nreconnect_delay_ms = 0", "reconnect_delay_ms: Expected `int` >= 1"),
        ("[nats.retry]\nreconnect_delay_ms = 1.5", "reconnect_delay_ms: Expected `int`, got `fl"),
        ("[nats.retry]\nconnect_timeout_ms = true", "connect_timeout_ms: Expected `int`, got `bo"),
        ('[nats.service]\nname = "a b"', "nats.service.name: Expected `str` matching regex"),
        ('[nats.service]\nversion = "one"', "nats.service.version: Expected `str` matching regex"),
        ("[streams]\nreplicas = 2", "streams.replicas: 2 is none of 1, 3, 5"),
        ("[streams]\nduplicate_window_ms = 99", "duplicate_window_ms: Expected `int` >= 100"),
        ("[streams]\nqueue_limit = 0", "queue_limit: Expected `int` >= 1"),
        ("[streams]\nevent_max_age_days = 0", "event_max_age_days: Expected `int` >= 1"),
        ('[read_model]\ndatabase = ""', "read_model.database: Expected `str` of length >= 1"),
    ],
)
def test_what_cannot_be_is_refused_by_file_and_key(
    toml: WriteToml, text: str, problem: str
) -> None:
    path = toml(text)
    message = refusal(path)
    assert message.startswith(f"{path}: ")
    assert problem in message


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://h", "'http://h' must start with one of nats, tls, ws, wss and ://"),
        ("h:4222", "'h:4222' must start with"),
        ("nats://", "'nats://' names no host"),
        ("nats://:4222", "names no host"),
        ("nats://h:0", "has port 0"),
        ("nats://h:65536", "has no valid port or host"),
        ("nats://h:x", "has no valid port or host"),
        ("nats://[::1", "has no valid port or host"),
        ("nats://ann:secret,word@h", "'nats://ann:***' has no valid port or host"),
        ("nats://a,", "is empty"),
        ("nats://a,ws://b", "mixes WebSocket servers with others"),
    ],
)
def test_a_bad_url_is_refused_and_its_source_named(url: str, problem: str) -> None:
    message = refusal(None, NATS_URL=url)
    assert message.startswith("NATS_URL: ")
    assert problem in message
    with pytest.raises(ConfigurationError, match=r"^--nats-url: "):
        load_settings(None, {}, nats_url=url)


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({"NATS_USER": "ann"}, "NATS_USER is given without nats.auth.password or NATS_PASSWORD"),
        ({"NATS_PASSWORD": "pw"}, "NATS_PASSWORD is given without nats.auth.user or NATS_USER"),
        (
            {"NATS_USER": "ann", "NATS_PASSWORD": "pw", "NATS_TOKEN": "t"},
            "credentials are given in more than one way: NATS_USER, NATS_TOKEN; keep one",
        ),
        (
            {"NATS_TOKEN": "t", "NATS_URL": "nats://ann:pw@h"},
            "credentials are given in more than one way: NATS_TOKEN, NATS_URL; keep one",
        ),
    ],
)
def test_half_given_or_contradictory_credentials_are_refused(
    environ: dict[str, str], problem: str
) -> None:
    assert refusal(None, **environ) == problem


@pytest.mark.parametrize("key", ["cert_file", "key_file"])
def test_a_certificate_and_its_key_go_together(toml: WriteToml, tmp_path: Path, key: str) -> None:
    (tmp_path / "pem").touch()
    path = toml(f'[nats.tls]\n{key} = "{tmp_path}/pem"')
    other = {"cert_file": "key_file or NATS_KEY", "key_file": "cert_file or NATS_CERT"}[key]
    assert refusal(path) == f"{path}: nats.tls.{key} is given without nats.tls.{other}"


def test_two_kinds_of_credentials_from_two_sources(toml: WriteToml) -> None:
    path = toml('[nats.auth]\nuser = "ann"\npassword = "pw"')
    assert f"{path}: nats.auth.user, NATS_TOKEN" in refusal(path, NATS_TOKEN="t")  # noqa: S106


@pytest.mark.parametrize(
    "key",
    [
        "auth.credentials_file",
        "auth.nkey_seed_file",
        "tls.ca_file",
        "tls.cert_file",
        "tls.key_file",
    ],
)
def test_a_referenced_file_must_be_there(toml: WriteToml, tmp_path: Path, key: str) -> None:
    section, name = key.split(".")
    path = toml(f'[nats.{section}]\n{name} = "{tmp_path}/none"')
    assert refusal(path) == (
        f"{path}: nats.{key}: {tmp_path}/none cannot be read: No such file or directory"
    )


def test_a_referenced_file_may_not_be_a_directory(tmp_path: Path) -> None:
    assert "Is a directory" in refusal(None, NATS_CREDS=str(tmp_path))


def test_the_first_delay_may_not_exceed_the_longest(toml: WriteToml) -> None:
    path = toml("[nats.retry]\nreconnect_delay_ms = 20_000")
    assert refusal(path) == (
        f"{path}: nats.retry.reconnect_delay_ms: the first delay, 20000 ms, is longer than "
        "the longest, 10000 ms"
    )


def test_secrets_are_not_shown() -> None:
    environ = {"NATS_USER": "ann", "NATS_PASSWORD": "s3cret"}
    settings = load_settings(None, environ)
    assert settings.nats.auth.password == "s3cret"  # noqa: S105
    assert "s3cret" not in repr(settings)
    carried = load_settings(None, {"NATS_URL": "nats://ann:s3cret@h,nats://s3cret@i"})
    assert "s3cret" not in repr(carried)
    assert "nats://***@h" in repr(carried)


@pytest.mark.parametrize(
    "url", ["http://ann:s3cret@h", "nats://ann:s3cret@h:x", "ann:s3cret@h", "nats://a:s3c/ret@h"]
)
def test_secrets_are_not_in_errors(url: str) -> None:
    message = refusal(None, NATS_URL=url)
    assert "s3c" not in message
    assert "***@h" in message


@given(
    user=st.text(st.characters(codec="ascii", exclude_characters=", @\n"), min_size=1),
    password=st.text(st.characters(codec="ascii", exclude_characters=",\n"), min_size=8),
)
def test_a_redacted_url_holds_no_credentials(user: str, password: str) -> None:
    for scheme in ("", "nats://", "tls://", "WSS://"):
        shown = redacted_url(f"{scheme}{user}:{password}@host:4222,nats://other")
        assert shown.endswith("***@host:4222,nats://other")
        assert password not in shown.removesuffix("***@host:4222,nats://other")


def test_a_url_without_credentials_stays_as_it_is() -> None:
    assert redacted_url("nats://a:4222,tls://b") == "nats://a:4222,tls://b"


# The configuration file of cim-domain-nix, as its documentation has it

SEED = """
[nats]
url = "nats://localhost:4222"
subject_prefix = "nix"

[nats.auth]
username = "nix-service"
password = "secret"

[nats.retry]
max_reconnects = 10
reconnect_delay_ms = 100
max_reconnect_delay_ms = 10000

[nats.service]
name = "cim-domain-nix"
version = "0.3.0"
description = "Nix domain service for CIM"
"""


def test_the_seeds_file_is_understood_as_written(toml: WriteToml) -> None:
    nats = load_settings(toml(SEED), {}).nats
    assert nats.url == ("nats://localhost:4222",)
    assert nats.auth == AuthSettings(user="nix-service", password=Secret("secret"))
    assert (nats.retry.max_reconnects, nats.retry.reconnect_delay_ms) == (10, 100)
    assert nats.service == ServiceSettings(
        name="cim-domain-nix", version="0.3.0", description="Nix domain service for CIM"
    )


def test_so_are_the_seeds_names_for_certificates(toml: WriteToml, tmp_path: Path) -> None:
    for name in ("ca.pem", "cert.pem", "key.pem"):
        (tmp_path / name).touch()
    path = toml(
        f"""
        [nats.tls]
        ca_cert = "{tmp_path}/ca.pem"
        client_cert = "{tmp_path}/cert.pem"
        client_key = "{tmp_path}/key.pem"
        insecure_skip_verify = false
        """
    )
    assert load_settings(path, {}).nats.tls == TlsSettings(
        ca_file=tmp_path / "ca.pem",
        cert_file=tmp_path / "cert.pem",
        key_file=tmp_path / "key.pem",
    )


def test_the_environment_wins_over_either_name(toml: WriteToml) -> None:
    settings = load_settings(toml(SEED), {"NATS_USER": "ann"})
    assert settings.nats.auth.user == "ann"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[nats.auth]\nusername = 'a'", "nats.auth.username is given without nats.auth.password"),
        ("[nats.auth]\nuser = 'a'\nusername = 'b'\npassword = 'c'", "are the same; keep one"),
        ("[nats.auth]\nnkey = 'SU'", "nkey_seed_file"),
        ("[nats.auth]\njwt = 'ey'", "credentials_file"),
        ("[nats.tls]\ninsecure_skip_verify = true", "servers are always verified"),
        ("[nats.service]\ninstance_id = 'x'", "each process generates its own"),
    ],
)
def test_what_the_seed_has_and_we_do_not_take_is_named(
    toml: WriteToml, text: str, problem: str
) -> None:
    assert problem in refusal(toml(text))


def test_the_name_of_a_domain_is_its_subject_prefix_unless_one_is_set() -> None:
    assert Settings().for_domain("shop").nats.subject_prefix == "shop"
    other = Settings(nats=NatsSettings(subject_prefix="other"))
    assert other.for_domain("shop") is other


@pytest.mark.parametrize("nats", [{"inbox_prefix": "shop.x"}, {"reply_prefixes": ("a", "shop")}])
def test_inboxes_may_not_be_below_the_name_of_the_domain(nats: Mapping[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"inboxes may not be below shop"):
        Settings(nats=NatsSettings(**nats)).for_domain("shop")
    with pytest.raises(ConfigurationError, match=r"inboxes may not be below shop"):
        NatsSettings(subject_prefix="shop", **nats)
