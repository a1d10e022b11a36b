"""Settings: defaults, then a TOML file, then the environment, then the command line.

A later source overrides an earlier one key by key. Relative paths of any source are relative to the
working directory.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeGuard
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from eventstore.errors import ConfigurationError, EventStoreError
from eventstore.jetstream.vocabulary import API_PREFIX
from eventstore.messages.subjects import check_name
from eventstore.undecodable import UNDECODABLE

__all__ = [
    "DEFAULT_URL",
    "Address",
    "AuthSettings",
    "LocalAddress",
    "NatsSettings",
    "OperationsSettings",
    "PersonalSettings",
    "ReadModelSettings",
    "RetrySettings",
    "Secret",
    "ServiceIdentity",
    "ServiceSettings",
    "Settings",
    "StreamSettings",
    "TlsSettings",
    "load_settings",
    "redacted_url",
]

DEFAULT_URL = "nats://127.0.0.1:4222"
"""The server if the settings name none."""

_DAY_MS = 86_400_000
_ENVIRONMENT = {
    "NATS_URL": "nats.url",
    "NATS_USER": "nats.auth.user",
    "NATS_PASSWORD": "nats.auth.password",
    "NATS_TOKEN": "nats.auth.token",
    "NATS_CREDS": "nats.auth.credentials_file",
    "NATS_NKEY_SEED_FILE": "nats.auth.nkey_seed_file",
    "NATS_INBOX_PREFIX": "nats.inbox_prefix",
    "NATS_API_PREFIX": "nats.api_prefix",
    "NATS_REPLY_PREFIXES": "nats.reply_prefixes",
    "EVENTSTORE_APP": "app",
    "EVENTSTORE_DATABASE": "read_model.database",
    "EVENTSTORE_MASTER_KEY": "personal.master_key",
    "EVENTSTORE_MASTER_KEY_FILE": "personal.master_key_file",
}
_LISTS = ("nats.url", "nats.reply_prefixes")  # comma-separated if they are strings
# Names in cim-domain-nix's own configuration.
_ALIASES = {
    "nats.auth.username": "nats.auth.user",
    "nats.tls.ca_cert": "nats.tls.ca_file",
    "nats.tls.client_cert": "nats.tls.cert_file",
    "nats.tls.client_key": "nats.tls.key_file",
}
_REFUSED = {
    "nats.auth.nkey": "write the seed into a file, and set nats.auth.nkey_seed_file",
    "nats.auth.jwt": "set nats.auth.credentials_file to the file with it and its seed",
    "nats.tls.insecure_skip_verify": "servers are always verified: set nats.tls.ca_file",
    "nats.service.instance_id": "each process generates its own, because it must be unique",
}
_REPLICAS = (1, 3, 5)  # an even number survives no more failures than the odd one below it
_WEBSOCKET = ("ws", "wss")
_SCHEMES = ("nats", "tls", *_WEBSOCKET)
_RESERVED = ("health", "discovery", "metrics", "_R_")  # first tokens that inboxes must not have
_INBOX_PREFIX = re.compile(r"[A-Za-z0-9_-]{1,64}(\.[A-Za-z0-9_-]{1,64}){0,3}")
_API_PREFIX = re.compile(r"[A-Za-z0-9$_-]{1,64}(\.[A-Za-z0-9$_-]{1,64}){0,5}")
_USER_INFO = re.compile(r"((?:^|,)\s*(?:[A-Za-z]+://)?)[^,]*@")

Days = Annotated[int, Meta(ge=1, le=36_500)]
QueueLimit = Annotated[int, Meta(ge=1, le=1_000_000_000)]
Milliseconds = Annotated[int, Meta(ge=1, le=_DAY_MS)]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


def redacted_url(url: str) -> str:
    """The URL, or several separated by commas, with any user, password or token masked."""
    return _USER_INFO.sub(r"\1***@", url)


class Secret(str):
    """A string whose `repr` masks it, also within the `repr` of its container."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


class Address(str):
    """A server's URL whose `repr` masks any credentials."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(redacted_url(self))


class LocalAddress(Address):
    """The URL of an embedded server, with the file of its master keys.

    The settings use that file unless another master key is given.
    """

    master_key_file: Path

    @classmethod
    def of(cls, url: str, master_key_file: Path) -> LocalAddress:
        """A URL, and the file in the server's data directory."""
        address = cls(url)
        address.master_key_file = master_key_file
        return address


class AuthSettings(Struct, frozen=True, kw_only=True):
    """Credentials: at most one of the four kinds, and that one completely."""

    user: Annotated[str, Meta(min_length=1)] | None = None
    password: Secret | None = None
    token: Secret | None = None
    credentials_file: Path | None = None
    nkey_seed_file: Path | None = None


class TlsSettings(Struct, frozen=True, kw_only=True):
    """TLS settings; if any is given, the connection must be encrypted.

    `server_name` is the expected name in the server's certificate, instead of the URL's host.
    """

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    server_name: Annotated[str, Meta(min_length=1)] | None = None
    handshake_first: bool = False


class RetrySettings(Struct, frozen=True, kw_only=True):
    """Reconnects; -1 attempts are unlimited, 0 are none.

    `first_connect_ms` is how long a first connect is retried, after which a last attempt may still
    run; 0 is one attempt. The default is one minute for `eventstore serve`, three seconds for other
    subcommands, and ten for programs.
    """

    max_reconnects: Annotated[int, Meta(ge=-1)] = -1
    reconnect_delay_ms: Milliseconds = 250
    max_reconnect_delay_ms: Milliseconds = 10_000
    reconnect_jitter_ms: Annotated[int, Meta(ge=0, le=_DAY_MS)] = 100
    connect_timeout_ms: Milliseconds = 5_000
    first_connect_ms: Annotated[int, Meta(ge=0, le=_DAY_MS)] | None = None


class ServiceIdentity(Struct, frozen=True):
    """What a service is called in NATS and in discovery; `version` is a semantic version."""

    name: str
    version: str
    description: str = ""


class ServiceSettings(Struct, frozen=True, kw_only=True):
    """The service's identity in NATS and in discovery; None is what the application says."""

    name: Name | None = None
    version: Annotated[str, Meta(pattern=r"^\d+\.\d+\.\d+([-+].+)?$")] | None = None
    description: str | None = None

    def identity(self, own: ServiceIdentity) -> ServiceIdentity:
        """The application's `own` identity, overruled by what is set here."""
        return ServiceIdentity(
            self.name or own.name,
            self.version or own.version,
            own.description if self.description is None else self.description,
        )


class NatsSettings(Struct, frozen=True, kw_only=True):
    """The connection to NATS; `url` is empty if no server is configured.

    `subject_prefix` overrules the domain's name as the first token of every subject. Our inboxes
    begin with `inbox_prefix`. Replies are sent to inboxes that begin with it, with
    `_INBOX`, or with one of `reply_prefixes`. `api_prefix` is the prefix of JetStream's API: in the
    domain `hub` it is `$JS.hub.API`, in another account the subject of the import.

    `commands_cross_accounts` asserts that only this service has users in its account, so that the
    server's information on the sender of a command (`Nats-Request-Info`) can be trusted. Each
    worker then receives every command a second time.
    """

    url: tuple[Address, ...] = ()
    subject_prefix: str | None = None
    inbox_prefix: str = "_INBOX"
    api_prefix: str = API_PREFIX
    reply_prefixes: tuple[str, ...] = ()
    commands_cross_accounts: bool = False
    auth: AuthSettings = AuthSettings()
    tls: TlsSettings = TlsSettings()
    retry: RetrySettings = RetrySettings()
    service: ServiceSettings = ServiceSettings()

    @property
    def servers(self) -> tuple[str, ...]:
        """The configured servers, or the default one."""
        return self.url or (DEFAULT_URL,)


class StreamSettings(Struct, frozen=True, kw_only=True):
    """Settings of the streams of one installation.

    `queue_limit` is the maximum number of waiting commands; while services run, it is overridden by
    `commands.queue_limit` of the domain's runtime configuration, if that is set.
    """

    replicas: int = 1
    compression: bool = False
    duplicate_window_ms: Annotated[int, Meta(ge=100, le=_DAY_MS)] = 120_000
    event_max_age_days: Days = 7
    outcome_max_age_days: Days = 30
    queue_limit: QueueLimit = 1_000_000


class ReadModelSettings(Struct, frozen=True, kw_only=True):
    """The database of the read models."""

    database: Annotated[str, Meta(min_length=1)] = "./var/read_model.sqlite"


class PersonalSettings(Struct, frozen=True, kw_only=True):
    """The master keys for the keys of personal data, in a file or as text.

    Both have one key per line, as `eventstore keys new` prints it. The first wraps; all unwrap.
    """

    master_key: Secret | None = None
    master_key_file: Path | None = None


class OperationsSettings(Struct, frozen=True, kw_only=True):
    """Discovery, metrics and tracing of a service, and its limits for the status "degraded".

    `metrics_address` (`host:port`) serves Prometheus metrics by HTTP at `/metrics`; `tracing`
    sends spans to OpenTelemetry, which needs the extra `otel`. `query_wait_ms` is the default for
    how long a query waits for a position of the log.
    """

    announce_interval_ms: Milliseconds = 30_000
    sample_interval_ms: Milliseconds = 5_000
    max_pending_commands: Annotated[int, Meta(ge=1)] = 1_000
    max_command_age_ms: Milliseconds = 30_000
    max_projection_lag: Annotated[int, Meta(ge=1)] = 1_000
    max_projection_stall_ms: Milliseconds = 30_000
    metrics_address: Annotated[str, Meta(pattern=r"^(|.+:[0-9]{1,5})$")] = ""
    tracing: bool = False
    query_wait_ms: Annotated[int, Meta(ge=1, le=30_000)] = 5_000


class Settings(Struct, frozen=True, kw_only=True):
    """All settings; safe to print, because their `repr` masks secrets.

    `app` is the application that the command line works for, `module:object`.
    """

    app: str | None = None
    nats: NatsSettings = NatsSettings()
    streams: StreamSettings = StreamSettings()
    read_model: ReadModelSettings = ReadModelSettings()
    operations: OperationsSettings = OperationsSettings()
    personal: PersonalSettings = PersonalSettings()

    def with_url(self, url: str) -> Settings:
        """The same settings for the server, or servers, at `url`; raises `ConfigurationError`.

        The URL of an embedded server contains its credentials, which replace the settings' own.
        """
        nats = msgspec.structs.replace(self.nats, url=_convert("nats.url", url, "url"))
        personal = self.personal
        if isinstance(url, LocalAddress):
            if "@" in url:
                nats = msgspec.structs.replace(nats, auth=AuthSettings())
            if personal == PersonalSettings():
                personal = PersonalSettings(master_key_file=url.master_key_file)
        return msgspec.structs.replace(self, nats=nats, personal=personal)

    def for_domain(self, name: str) -> Settings:
        """With the domain's name as subject prefix, unless that is set.

        Raises `ConfigurationError` if inboxes would be below it.
        """
        if self.nats.subject_prefix is not None:
            return self
        nats = msgspec.structs.replace(self.nats, subject_prefix=name)
        for key, prefixes in _inbox_prefixes(nats).items():
            _check_outside(key, prefixes, name)
        return msgspec.structs.replace(self, nats=nats)

    def in_directory(self, directory: Path) -> Settings:
        """With the read model in this directory, unless another place is set."""
        if self.read_model != ReadModelSettings():
            return self
        read_model = ReadModelSettings(database=str(directory / "read_model.sqlite"))
        return msgspec.structs.replace(self, read_model=read_model)


def load_settings(
    config_file: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    *,
    nats_url: str | None = None,
    database: str | None = None,
) -> Settings:
    """Read the settings; `nats_url` and `database` are from the command line, and override all.

    Without `config_file`, `EVENTSTORE_CONFIG` may name the TOML file. An empty variable counts as
    unset. Raises `ConfigurationError`, with source and key, for settings that are unknown,
    malformed, out of range, incomplete or contradictory. Whether a server can be reached, or
    accepts the credentials, is not checked here.
    """
    if isinstance(nats_url, LocalAddress):
        return load_settings(config_file, environ, database=database).with_url(nats_url)
    given: dict[str, _Given] = {}
    for key, value, source in (
        *_from_file(config_file, environ),
        *((key, environ.get(name) or None, name) for name, key in _ENVIRONMENT.items()),
        ("nats.url", nats_url, "--nats-url"),
        ("read_model.database", database, "--database"),
    ):
        if value is not None:
            given[key] = _Given(_convert(key, value, source), source)
    settings = Settings(**_sections(Settings, given))
    _check_credentials(settings.nats, given)
    _check_delays(settings.nats.retry, given)
    _check_inboxes(settings.nats, given)
    _check_master_keys(given)
    return settings


class _Given(NamedTuple):
    value: Any
    source: str


_Entry = tuple[str, object, str]  # dotted key, raw value, source


def _from_file(path: Path | None, environ: Mapping[str, str]) -> Iterator[_Entry]:
    origin = ""
    if path is None:
        if not environ.get("EVENTSTORE_CONFIG"):
            return
        path, origin = Path(environ["EVENTSTORE_CONFIG"]), " (named by EVENTSTORE_CONFIG)"
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path}{origin} cannot be read: {error.strerror}") from error
    except UNDECODABLE as error:  # malformed TOML (with its line), or not UTF-8
        raise ConfigurationError(f"{path}{origin} is not TOML: {error}") from error
    written: dict[str, str] = {}
    for name, value in _flattened(tables):
        if name == "nats.tls.insecure_skip_verify" and value is False:
            continue  # which is the only supported behaviour
        key = _ALIASES.get(name, name)
        if key not in _KEYS:
            raise ConfigurationError(f"{path}: {name} {_unknown(name)}")
        if key in written:
            raise ConfigurationError(f"{path}: {name} and {written[key]} are the same; keep one")
        written[key] = name
        yield key, value, f"{path}: {name}"


def _flattened(table: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in table.items():
        key = f"{prefix}{name}"
        if key in _SECTIONS and isinstance(value, dict):
            yield from _flattened(value, f"{key}.")
        else:
            yield key, value


def _unknown(key: str) -> str:
    if key in _SECTIONS:
        return f"is a table: write [{key}]"
    if key in _REFUSED:
        return f"is not supported: {_REFUSED[key]}"
    near = difflib.get_close_matches(key, [*_KEYS, *_SECTIONS], n=1)
    return f"is not known; did you mean {near[0]}?" if near else "is not known"


def _is_section(kind: object) -> TypeGuard[type[Struct]]:
    return isinstance(kind, type) and issubclass(kind, Struct)


def _leaves(section: type[Struct], prefix: str = "") -> Iterator[tuple[str, object]]:
    for field in msgspec.structs.fields(section):
        key = f"{prefix}{field.name}"
        yield key, field.type
        if _is_section(field.type):
            yield from _leaves(field.type, f"{key}.")


_KEYS = {key: kind for key, kind in _leaves(Settings) if not _is_section(kind)}
_SECTIONS = {key for key, kind in _leaves(Settings) if _is_section(kind)}


def _sections(section: type[Struct], given: Mapping[str, _Given], prefix: str = "") -> Any:
    values: dict[str, Any] = {}
    for field in msgspec.structs.fields(section):
        key = f"{prefix}{field.name}"
        if _is_section(field.type):
            values[field.name] = field.type(**_sections(field.type, given, f"{key}."))
        elif key in given:
            values[field.name] = given[key].value
    return values


def _convert(key: str, value: object, source: str) -> Any:
    if key in _LISTS and isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    try:
        converted = msgspec.convert(value, _KEYS[key], dec_hook=_from_string)
        if key in _CHECKS:
            _CHECKS[key](converted)
    except (*UNDECODABLE, EventStoreError) as error:
        raise ConfigurationError(f"{source}: {error}") from None  # the cause may show a secret
    return converted


def _from_string(kind: Callable[[str], Any], value: object) -> Any:
    if not isinstance(value, str):
        raise TypeError(f"Expected `str`, got `{type(value).__name__}`")
    if not value:
        raise ValueError("is empty")
    return kind(value)


def _check_servers(urls: tuple[str, ...]) -> None:
    if not urls:
        raise ValueError("names no server")
    for url in urls:
        _check_server(url)
    if len({urlsplit(url).scheme in _WEBSOCKET for url in urls}) > 1:
        raise ValueError("mixes WebSocket servers with others")


def _check_server(url: str) -> None:
    shown = redacted_url(url)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        # After the last colon there may be a part of a password that contains a comma.
        shown = re.sub(r":[^:/\]]*$", ":***", shown) if "@" not in shown else shown
        raise ValueError(
            f"{shown!r} has no valid port or host; in a user, password or token the characters "
            "@ : / ? # % , are written as %40 and so on"
        ) from None
    if parts.scheme not in _SCHEMES:
        raise ValueError(f"{shown!r} must start with one of {', '.join(_SCHEMES)} and ://")
    if not parts.hostname:
        raise ValueError(f"{shown!r} names no host")
    if port == 0:
        raise ValueError(f"{shown!r} has port 0; ports are 1 to 65535")


def _check_file(path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None


def _check_replicas(count: int) -> None:
    if count not in _REPLICAS:
        raise ValueError(f"{count} is none of {', '.join(map(str, _REPLICAS))}")


def _check_inbox_prefix(prefix: str) -> None:
    if not _INBOX_PREFIX.fullmatch(prefix):
        raise ValueError(
            f"{prefix!r} is not a prefix for inboxes: up to four tokens of A-Z, a-z, 0-9, '_' and "
            "'-', with dots between and none at the end"
        )
    if (first := prefix.partition(".")[0]) in _RESERVED:
        raise ValueError(f"{prefix!r} is not a prefix for inboxes: {first} is reserved")


def _check_inbox_prefixes(prefixes: tuple[str, ...]) -> None:
    for prefix in prefixes:
        _check_inbox_prefix(prefix)


def _check_api_prefix(prefix: str) -> None:
    if not _API_PREFIX.fullmatch(prefix):
        raise ValueError(
            f"{prefix!r} is not a prefix of JetStream's API: a subject such as {API_PREFIX}, "
            "without a wildcard and without a dot at its end"
        )


_CHECKS: Mapping[str, Callable[[Any], object]] = {
    "nats.url": _check_servers,
    "nats.subject_prefix": lambda value: check_name("subject prefix", value),
    "nats.inbox_prefix": _check_inbox_prefix,
    "nats.api_prefix": _check_api_prefix,
    "nats.reply_prefixes": _check_inbox_prefixes,
    "nats.auth.credentials_file": _check_file,
    "nats.auth.nkey_seed_file": _check_file,
    "nats.tls.ca_file": _check_file,
    "nats.tls.cert_file": _check_file,
    "nats.tls.key_file": _check_file,
    "streams.replicas": _check_replicas,
    "personal.master_key_file": _check_file,
}


def _check_credentials(nats: NatsSettings, given: Mapping[str, _Given]) -> None:
    _check_pair("nats.auth.user", "nats.auth.password", given)
    _check_pair("nats.tls.cert_file", "nats.tls.key_file", given)
    kinds = ("user", "token", "credentials_file", "nkey_seed_file")
    keys = (f"nats.auth.{kind}" for kind in kinds)
    sources = [given[key].source for key in keys if key in given]
    if any("@" in url for url in nats.url):
        sources.append(given["nats.url"].source)
    _check_single("credentials", sources, "keep one")


def _check_pair(one: str, other: str, given: Mapping[str, _Given]) -> None:
    for present, missing in ((one, other), (other, one)):
        if present in given and missing not in given:
            variables = [f" or {name}" for name, key in _ENVIRONMENT.items() if key == missing]
            raise ConfigurationError(
                f"{given[present].source} is given without {missing}{''.join(variables)}"
            )


def _check_master_keys(given: Mapping[str, _Given]) -> None:
    keys = ("personal.master_key", "personal.master_key_file")
    sources = [given[key].source for key in keys if key in given]
    _check_single("master keys", sources, "keep one, which may hold several keys")


def _check_single(what: str, sources: list[str], advice: str) -> None:
    if len(sources) > 1:
        raise ConfigurationError(
            f"{what} are given in more than one way: {', '.join(sources)}; {advice}"
        )


def _check_delays(retry: RetrySettings, given: Mapping[str, _Given]) -> None:
    if retry.reconnect_delay_ms > retry.max_reconnect_delay_ms:
        keys = ("nats.retry.reconnect_delay_ms", "nats.retry.max_reconnect_delay_ms")
        sources = " and ".join(given[key].source for key in keys if key in given)
        raise ConfigurationError(
            f"{sources}: the first delay, {retry.reconnect_delay_ms} ms, is longer than "
            f"the longest, {retry.max_reconnect_delay_ms} ms"
        )


def _check_inboxes(nats: NatsSettings, given: Mapping[str, _Given]) -> None:
    for key, prefixes in _inbox_prefixes(nats).items():
        if key in given and nats.subject_prefix is not None:
            _check_outside(given[key].source, prefixes, nats.subject_prefix)


def _inbox_prefixes(nats: NatsSettings) -> Mapping[str, tuple[str, ...]]:
    return {"nats.inbox_prefix": (nats.inbox_prefix,), "nats.reply_prefixes": nats.reply_prefixes}


def _check_outside(source: str, prefixes: tuple[str, ...], domain: str) -> None:
    if any(prefix.partition(".")[0] == domain for prefix in prefixes):
        raise ConfigurationError(
            f"{source}: inboxes may not be below {domain}, which is the domain's subject prefix"
        )
