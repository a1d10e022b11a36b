"""Contexts of the NATS command line, which are read if they are named, and only then."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eventstore.config import (
    AuthSettings,
    LocalAddress,
    Secret,
    Settings,
    TlsSettings,
    load_settings,
)
from eventstore.errors import ConfigurationError


class Contexts:
    """A home directory with contexts."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.folder = home / ".config" / "nats"
        (self.folder / "context").mkdir(parents=True)

    def save(self, name: str, **fields: Any) -> Path:
        path = self.folder / "context" / f"{name}.json"
        path.write_text(json.dumps(fields))
        return path

    def load(self, file: Path | None = None, /, **environ: str) -> Settings:
        return load_settings(file, {"HOME": str(self.home), **environ})

    def refusal(self, **environ: str) -> str:
        with pytest.raises(ConfigurationError) as caught:
            self.load(**environ)
        return str(caught.value)

    def toml(self, text: str) -> Path:
        path = self.home / "own.toml"
        path.write_text(text)
        return path


@pytest.fixture
def contexts(tmp_path: Path) -> Contexts:
    return Contexts(tmp_path)


EMPTY = {
    "description": "",
    "url": "",
    "socks_proxy": "",
    "token": "",
    "user": "",
    "password": "",
    "creds": "",
    "nkey": "",
    "cert": "",
    "key": "",
    "ca": "",
    "nsc": "",
    "jetstream_domain": "",
    "jetstream_api_prefix": "",
    "jetstream_event_prefix": "",
    "inbox_prefix": "",
    "user_jwt": "",
    "color_scheme": "",
    "tls_first": False,
    "windows_cert_store": "",
    "windows_ca_certs_match": None,
}
"""A context as `nats context add` writes it."""


def test_all_that_a_context_has_is_used(contexts: Contexts) -> None:
    for name in ("ca.pem", "cert.pem", "key.pem"):
        (contexts.home / name).touch()
    fields = {
        "description": "production",
        "url": "nats://a:4222, tls://b:4222",
        "user": "ann",
        "password": "s3cret",
        "ca": "~/ca.pem",
        "cert": "${PEMS}/cert.pem",
        "key": f"file://{contexts.home}/key.pem",
        "tls_first": True,
        "inbox_prefix": "_INBOX_ann",
        "jetstream_domain": "hub",
        "color_scheme": "yellow",
        "jetstream_event_prefix": "$JS.hub.EVENT",
    }
    contexts.save("prod", **(EMPTY | fields))
    nats = contexts.load(NATS_CONTEXT="prod", PEMS=str(contexts.home)).nats
    assert nats.servers == ("nats://a:4222", "tls://b:4222")
    assert nats.auth == AuthSettings(user="ann", password=Secret("s3cret"))
    assert nats.tls == TlsSettings(
        ca_file=contexts.home / "ca.pem",
        cert_file=contexts.home / "cert.pem",
        key_file=contexts.home / "key.pem",
        handshake_first=True,
    )
    assert nats.inbox_prefix == "_INBOX_ann"
    assert nats.jetstream_api == "$JS.hub.API"


@pytest.mark.parametrize(
    ("field", "attribute"), [("creds", "credentials_file"), ("nkey", "nkey_seed_file")]
)
def test_files_of_credentials(contexts: Contexts, field: str, attribute: str) -> None:
    (contexts.home / "file").touch()
    contexts.save("prod", **{field: "~/file"})
    auth = contexts.load(NATS_CONTEXT="prod").nats.auth
    assert getattr(auth, attribute) == contexts.home / "file"


def test_a_token_and_the_prefix_of_an_import(contexts: Contexts) -> None:
    contexts.save("prod", token="t", jetstream_api_prefix="js.prod")  # noqa: S106
    nats = contexts.load(NATS_CONTEXT="prod").nats
    assert (nats.auth.token, nats.jetstream_api) == ("t", "js.prod")


def test_a_scheme_may_be_omitted_and_a_url_too(contexts: Contexts) -> None:
    contexts.save("short", url="connect.example,other:4223")
    contexts.save("empty", **EMPTY)
    short = contexts.load(NATS_CONTEXT="short").nats
    assert short.url == ("nats://connect.example", "nats://other:4223")
    assert contexts.load(NATS_CONTEXT="empty").nats.url == ("nats://localhost:4222",)


def test_nothing_is_read_unless_a_context_is_named(contexts: Contexts) -> None:
    contexts.save("prod", url="nats://prod", nonsense="x")
    (contexts.folder / "context.txt").write_text("prod")
    assert contexts.load() == Settings()


def test_the_selected_one_can_be_named(contexts: Contexts) -> None:
    contexts.save("prod", url="nats://prod")
    (contexts.folder / "context.txt").write_text("prod\n")
    assert contexts.load(NATS_CONTEXT="@selected").nats.url == ("nats://prod",)
    (contexts.folder / "context.txt").unlink()
    assert "NATS_CONTEXT: no context is selected" in contexts.refusal(NATS_CONTEXT="@selected")


def test_another_directory_of_configuration(contexts: Contexts, tmp_path: Path) -> None:
    other = Contexts(tmp_path / "other")
    other.save("prod", url="nats://other")
    contexts.save("prod", url="nats://home")
    xdg = str(tmp_path / "other" / ".config")
    assert contexts.load(NATS_CONTEXT="prod", XDG_CONFIG_HOME=xdg).nats.url == ("nats://other",)


def test_it_can_be_named_everywhere(contexts: Contexts) -> None:
    for name in ("file", "short", "long", "code"):
        contexts.save(name, url=f"nats://{name}")
    file = contexts.toml('[nats]\ncontext = "file"')
    environ = {"HOME": str(contexts.home), "NATS_CONTEXT": "short"}
    assert contexts.load(file).nats.url == ("nats://file",)
    assert contexts.load(EVENTSTORE_NATS_CONTEXT="long").nats.url == ("nats://long",)
    assert load_settings(file, environ).nats.url == ("nats://short",)
    assert load_settings(file, environ, context="code").nats.url == ("nats://code",)


def test_the_environments_own_names_win_over_it(contexts: Contexts) -> None:
    contexts.save("prod", url="nats://prod", user="ann", password="old")  # noqa: S106
    nats = contexts.load(NATS_CONTEXT="prod", NATS_PASSWORD="new").nats  # noqa: S106
    assert (nats.url, nats.auth.user, nats.auth.password) == (("nats://prod",), "ann", "new")
    environ = {"HOME": str(contexts.home), "NATS_URL": "nats://own"}
    settings = load_settings(environ=environ, context="prod")
    assert (settings.nats.url, settings.nats.auth.user) == (("nats://own",), "ann")


def test_it_is_below_the_file_that_names_it_and_above_another(contexts: Contexts) -> None:
    contexts.save("prod", url="nats://prod", inbox_prefix="_INBOX_p")
    own = contexts.toml('[nats]\ncontext = "prod"\nurl = "nats://file"')
    nats = contexts.load(own).nats
    assert (nats.url, nats.inbox_prefix) == (("nats://file",), "_INBOX_p")
    other = contexts.toml('[nats]\nurl = "nats://file"\nsubject_prefix = "shop"')
    nats = contexts.load(other, NATS_CONTEXT="prod").nats
    assert (nats.url, nats.subject_prefix) == (("nats://prod",), "shop")


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"nsc": "nsc://op/acc/user"}, "nsc is not supported: write the credentials into a file"),
        ({"user_jwt": "ey"}, "user_jwt is not supported: write the JWT and its seed into a file"),
        ({"user_seed": "SU"}, "user_seed is not supported"),
        ({"socks_proxy": "socks5://h"}, "socks_proxy is not supported"),
        ({"windows_cert_store": "machine"}, "windows_cert_store is not supported: set cert, key"),
        ({"windows_ca_certs_match": ["x"]}, "windows_ca_certs_match is not supported"),
        ({"inbox_prefx": "x"}, "inbox_prefx is not known; did you mean inbox_prefix?"),
        ({"url": "http://h"}, "url: 'http://h' must start with"),
        ({"url": 3}, "url: Expected `array`, got `int`"),
        ({"tls_first": "yes"}, "tls_first: Expected `bool`, got `str`"),
        ({"inbox_prefix": "a.>"}, "inbox_prefix: 'a.>' is not a prefix for inboxes"),
        ({"jetstream_domain": "a.b"}, "jetstream_domain: Expected `str` matching regex"),
        ({"creds": "/no/such/file"}, "creds: /no/such/file cannot be read: No such file"),
        ({"creds": "a\0b"}, "cannot be read: embedded null byte"),
        ({"ca": 3}, "ca: Expected `str`, got `int`"),
        ({"creds": "op://vault/item"}, "creds is a reference to another store"),
        ({"user": "a", "password": "env://PW"}, "password is a reference to another store"),
        ({"user": "ann"}, "user is given without nats.auth.password"),
        ({"user": "a", "password": "s3cret", "token": "t"}, "credentials are given in more than"),
        ({"jetstream_domain": "a", "jetstream_api_prefix": "b"}, "JetStream's API is given in mor"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_file_and_field(
    contexts: Contexts, fields: dict[str, Any], problem: str
) -> None:
    path = contexts.save("prod", **fields)
    message = contexts.refusal(NATS_CONTEXT="prod")
    assert f"{path}: " in message
    assert problem in message
    assert "s3cret" not in message


def test_a_context_that_is_not_there_is_named_with_the_nearest(contexts: Contexts) -> None:
    contexts.save("production")
    message = contexts.refusal(NATS_CONTEXT="prodution")
    assert message.startswith("NATS_CONTEXT: there is no context 'prodution' (")
    assert message.endswith("; did you mean production?")


@pytest.mark.parametrize("name", ["../prod", "a/b", "a\\b", "..", "a\0b"])
def test_a_name_is_no_path(contexts: Contexts, name: str) -> None:
    assert "is not the name of a context" in contexts.refusal(NATS_CONTEXT=name)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"password": "s3cret', b"\xff", b"[" * 9_999])
def test_what_is_no_context_is_refused_without_showing_it(
    contexts: Contexts, content: bytes
) -> None:
    path = contexts.save("prod")
    path.write_bytes(content)
    message = contexts.refusal(NATS_CONTEXT="prod")
    assert message == f"{path} (named by NATS_CONTEXT) is not a JSON object"


def test_a_name_may_be_too_long_for_a_file(contexts: Contexts) -> None:
    assert "cannot be read: File name too long" in contexts.refusal(NATS_CONTEXT="a" * 300)


def test_an_unreadable_context_is_named(contexts: Contexts) -> None:
    path = contexts.folder / "context" / "prod.json"
    path.mkdir()
    assert contexts.refusal(NATS_CONTEXT="prod") == (
        f"{path} (named by NATS_CONTEXT) cannot be read: Is a directory"
    )


@pytest.mark.parametrize(("text", "problem"), [("3", "Expected `str`, got `int`"), ('""', "''")])
def test_a_name_of_another_kind_is_refused(contexts: Contexts, text: str, problem: str) -> None:
    file = contexts.toml(f"[nats]\ncontext = {text}")
    with pytest.raises(ConfigurationError, match=r"own\.toml: nats\.context: ") as caught:
        contexts.load(file)
    assert problem in str(caught.value)


def test_a_domain_is_not_combined_with_a_prefix_of_another_source(contexts: Contexts) -> None:
    contexts.save("prod", jetstream_domain="hub")
    message = contexts.refusal(NATS_CONTEXT="prod", NATS_API_PREFIX="js.prod")
    assert "prod.json: jetstream_domain, NATS_API_PREFIX; keep one" in message


def test_an_embedded_server_is_not_reached_through_a_context_for_another(
    contexts: Contexts,
) -> None:
    contexts.save("prod", url="tls://prod", token="t", jetstream_domain="hub")  # noqa: S106
    environ = {"HOME": str(contexts.home), "NATS_CONTEXT": "prod"}
    keys = contexts.home / "master.keys"
    keys.touch()
    url = LocalAddress.of("nats://own@127.0.0.1:1", keys)
    file = contexts.toml('[nats]\ncontext = "prod"')
    for settings in (load_settings(None, environ, nats_url=url), load_settings(file, nats_url=url)):
        assert settings == load_settings(None, {}, nats_url=url)
    given = load_settings(None, environ, nats_url=url, context="prod")
    assert (given.nats.url, given.nats.jetstream_domain) == ((url,), "hub")
