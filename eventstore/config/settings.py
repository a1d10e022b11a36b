"""The settings as values: one class a table, each checked when it is made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeGuard

import msgspec
from msgspec import Meta, Struct

from eventstore.config.checks import check_delays, check_inboxes, converted
from eventstore.config.values import Address, LocalAddress, Secret, redacted_database
from eventstore.errors import ConfigurationError
from eventstore.jetstream.vocabulary import API_PREFIX, domain_api_prefix

DEFAULT_URL = "nats://127.0.0.1:4222"
"""The server if the settings name none."""

_DAY_MS = 86_400_000

Days = Annotated[int, Meta(ge=1, le=36_500)]
QueueLimit = Annotated[int, Meta(ge=1, le=1_000_000_000)]
Milliseconds = Annotated[int, Meta(ge=1, le=_DAY_MS)]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class Table(Struct, frozen=True, kw_only=True):
    """A table of settings; a value that is out of range raises `ConfigurationError`."""

    path: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for name, kind in _kinds(type(self)).items():
            key = f"{self.path}.{name}" if self.path else name
            value = converted(key, kind, getattr(self, name), key)
            msgspec.structs.force_setattr(self, name, value)

    def _check_one(self, *names: str) -> None:
        given = [f"{self.path}.{name}" for name in names if getattr(self, name) is not None]
        if len(given) > 1:
            raise ConfigurationError(f"{' and '.join(given)} exclude each other; keep one")

    def _check_both(self, one: str, other: str) -> None:
        for present, missing in ((one, other), (other, one)):
            if getattr(self, present) is not None and getattr(self, missing) is None:
                given = f"{self.path}.{present}"
                raise ConfigurationError(f"{given} is given without {self.path}.{missing}")


@cache
def _kinds(table: type[Struct]) -> Mapping[str, Any]:
    """The types of a table's own settings."""
    fields = msgspec.structs.fields(table)
    return {each.name: each.type for each in fields if not is_table(each.type)}


def is_table(kind: object) -> TypeGuard[type[Table]]:
    """Whether the type of a field is a table."""
    return isinstance(kind, type) and issubclass(kind, Table)


class AuthSettings(Table, frozen=True, kw_only=True):
    """Credentials: at most one of the four kinds, and that one completely."""

    path: ClassVar[str] = "nats.auth"
    user: Annotated[str, Meta(min_length=1)] | None = None
    password: Secret | None = None
    token: Secret | None = None
    credentials_file: Path | None = None
    nkey_seed_file: Path | None = None

    def __post_init__(self) -> None:
        Table.__post_init__(self)
        self._check_both("user", "password")
        self._check_one("user", "token", "credentials_file", "nkey_seed_file")


class TlsSettings(Table, frozen=True, kw_only=True):
    """TLS settings; if any is given, the connection must be encrypted.

    `server_name` is the expected name in the server's certificate, instead of the URL's host.
    """

    path: ClassVar[str] = "nats.tls"
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    server_name: Annotated[str, Meta(min_length=1)] | None = None
    handshake_first: bool = False

    def __post_init__(self) -> None:
        Table.__post_init__(self)
        self._check_both("cert_file", "key_file")


class RetrySettings(Table, frozen=True, kw_only=True):
    """Reconnects; -1 attempts are unlimited, 0 are none.

    `first_connect_ms` is how long a first connect is retried, after which a last attempt may still
    run; 0 is one attempt. The default is one minute for `eventstore serve`, three seconds for other
    subcommands, and ten for programs. `leader_wait_ms` is how long a service then waits at its
    start for a cluster to have a quorum, and for its streams to have leaders; 0 is one attempt.
    """

    path: ClassVar[str] = "nats.retry"
    max_reconnects: Annotated[int, Meta(ge=-1)] = -1
    reconnect_delay_ms: Milliseconds = 250
    max_reconnect_delay_ms: Milliseconds = 10_000
    reconnect_jitter_ms: Annotated[int, Meta(ge=0, le=_DAY_MS)] = 100
    connect_timeout_ms: Milliseconds = 5_000
    first_connect_ms: Annotated[int, Meta(ge=0, le=_DAY_MS)] | None = None
    leader_wait_ms: Annotated[int, Meta(ge=0, le=_DAY_MS)] = 60_000

    def __post_init__(self) -> None:
        Table.__post_init__(self)
        first, longest = self.reconnect_delay_ms, self.max_reconnect_delay_ms
        check_delays("nats.retry.reconnect_delay_ms", first, longest)


class ServiceIdentity(Struct, frozen=True):
    """What a service is called in NATS and in discovery; `version` is a semantic version."""

    name: str
    version: str
    description: str = ""


class ServiceSettings(Table, frozen=True, kw_only=True):
    """The service's identity in NATS and in discovery; None is what the application says."""

    path: ClassVar[str] = "nats.service"
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


class NatsSettings(Table, frozen=True, kw_only=True):
    """The connection to NATS; `url` is empty if no server is configured.

    `subject_prefix` overrules the domain's name as the first token of every subject: an application
    sees to that, and parts that are put together by hand take `Domain.renamed`. Our inboxes begin
    with `inbox_prefix`. Replies are sent to inboxes that begin with it, with `_INBOX`, or
    with one of `reply_prefixes`. `jetstream_domain` is the domain of the JetStream that is used, if
    it is not the server's own; or `api_prefix` is the prefix of its API, if another account exports
    that.

    `commands_cross_accounts` asserts that only this service has users in its account, so that the
    server's information on the sender of a command (`Nats-Request-Info`) can be trusted. Each
    worker then receives every command a second time.
    """

    path: ClassVar[str] = "nats"
    url: tuple[Address, ...] = ()
    subject_prefix: str | None = None
    inbox_prefix: str = "_INBOX"
    jetstream_domain: Name | None = None
    api_prefix: str = API_PREFIX
    reply_prefixes: tuple[str, ...] = ()
    commands_cross_accounts: bool = False
    auth: AuthSettings = AuthSettings()
    tls: TlsSettings = TlsSettings()
    retry: RetrySettings = RetrySettings()
    service: ServiceSettings = ServiceSettings()

    def __post_init__(self) -> None:
        Table.__post_init__(self)
        if self.jetstream_domain is not None and self.api_prefix != API_PREFIX:
            raise ConfigurationError("nats.jetstream_domain and nats.api_prefix exclude each other")
        check_inboxes("nats.inbox_prefix", self.inbox_prefix, self.subject_prefix)
        check_inboxes("nats.reply_prefixes", self.reply_prefixes, self.subject_prefix)

    @property
    def jetstream_api(self) -> str:
        """The prefix of JetStream's API, in the domain if one is set."""
        if self.jetstream_domain is None:
            return self.api_prefix
        return domain_api_prefix(self.jetstream_domain)

    @property
    def servers(self) -> tuple[str, ...]:
        """The configured servers, or the default one."""
        return self.url or (DEFAULT_URL,)


class StreamSettings(Table, frozen=True, kw_only=True):
    """Settings of the streams of one installation.

    `queue_limit` is the maximum number of waiting commands; while services run, it is overridden by
    `commands.queue_limit` of the domain's runtime configuration, if that is set.
    """

    path: ClassVar[str] = "streams"
    replicas: int = 1
    compression: bool = False
    duplicate_window_ms: Annotated[int, Meta(ge=100, le=_DAY_MS)] = 120_000
    event_max_age_days: Days = 7
    outcome_max_age_days: Days = 30
    queue_limit: QueueLimit = 1_000_000


class ReadModelSettings(Table, frozen=True, kw_only=True):
    """The database of the read models.

    With `rebuild_diverged`, read models of another log, or of a history that the log no longer has,
    are rebuilt at the start; else the service refuses to start on them.
    """

    path: ClassVar[str] = "read_model"
    database: Annotated[str, Meta(min_length=1)] = "./var/read_model.sqlite"
    rebuild_diverged: bool = False

    def __repr__(self) -> str:
        return f"ReadModelSettings(database={redacted_database(self.database)!r})"


class PersonalSettings(Table, frozen=True, kw_only=True):
    """The master keys for the keys of personal data, in a file or as text.

    Both have one key per line, as `eventstore keys new` prints it. The first wraps; all unwrap.
    """

    path: ClassVar[str] = "personal"
    master_key: Secret | None = None
    master_key_file: Path | None = None

    def __post_init__(self) -> None:
        Table.__post_init__(self)
        self._check_one("master_key", "master_key_file")


class OperationsSettings(Table, frozen=True, kw_only=True):
    """The processes, discovery, metrics and tracing of a service, and its limits for "degraded".

    With 2 `processes`, the read side of a service (projections, queries, feed and subscribers) runs
    in a second process beside the command worker; one that runs only one of both sides has one.

    `metrics_address` (`host:port`) serves Prometheus metrics by HTTP at `/metrics`, and whether the
    service lives and is ready at `/livez` and `/readyz`; `tracing` sends spans to OpenTelemetry,
    which needs the extra `otel`. `json_logs` has `serve` log JSON. With
    `cloudevents`, published events have the attributes of CloudEvents as headers. `query_wait_ms`
    is the default for how long a query waits for a position of the log. `state_cache_mb` is what
    the states of aggregates and processes that were used last may take in each process of a
    service; 0 keeps none, and every command loads its aggregate. Beside the states, the heads and
    event ids of aggregates may take up to five quarters of it.
    """

    path: ClassVar[str] = "operations"
    processes: Annotated[int, Meta(ge=1, le=2)] = 1
    announce_interval_ms: Milliseconds = 30_000
    sample_interval_ms: Milliseconds = 5_000
    max_pending_commands: Annotated[int, Meta(ge=1)] = 1_000
    max_command_age_ms: Milliseconds = 30_000
    max_timer_lateness_ms: Milliseconds = 30_000
    max_projection_lag: Annotated[int, Meta(ge=1)] = 1_000
    max_projection_stall_ms: Milliseconds = 30_000
    metrics_address: Annotated[str, Meta(pattern=r"^(|.+:[0-9]{1,5})$")] = ""
    tracing: bool = False
    json_logs: bool = False
    cloudevents: bool = False
    query_wait_ms: Annotated[int, Meta(ge=1, le=30_000)] = 5_000
    state_cache_mb: Annotated[int, Meta(ge=0, le=65_536)] = 64


class ConsoleSettings(Table, frozen=True, kw_only=True):
    """The console in the browser: where it listens, and who may do what.

    `address` is `host:port`. Another host than the machine's own (loopback) needs logins:
    `tokens_file`, whose lines are a name and a token each, or `login_header`, in which a reverse
    proxy names who has logged in; then nobody else may be able to reach the address. `hosts` are
    further names that the console is called by, as in the URL.

    `operators` are the names of those who may act: retry, discard, rebuild, pause, cancel; and
    `personal` of those who may see personal data. `*` is everybody. Without logins, everybody is
    called `local`.
    """

    path: ClassVar[str] = "console"
    address: Annotated[str, Meta(pattern=r"^.+:[0-9]{1,5}$")] = "127.0.0.1:8480"
    hosts: tuple[Annotated[str, Meta(pattern=r"^[A-Za-z0-9.:\[\]_-]{1,255}$")], ...] = ()
    tokens_file: Path | None = None
    login_header: Name | None = None
    operators: tuple[str, ...] = ()
    personal: tuple[str, ...] = ()

    @property
    def has_logins(self) -> bool:
        """Whether people have to say who they are."""
        return self.tokens_file is not None or self.login_header is not None


class Settings(Table, frozen=True, kw_only=True):
    """All settings; safe to print, because their `repr` masks secrets.

    `app` is the application that the command line works for, `module:object`.
    """

    app: str | None = None
    nats: NatsSettings = NatsSettings()
    streams: StreamSettings = StreamSettings()
    read_model: ReadModelSettings = ReadModelSettings()
    operations: OperationsSettings = OperationsSettings()
    personal: PersonalSettings = PersonalSettings()
    console: ConsoleSettings = ConsoleSettings()

    def with_url(self, url: str) -> Settings:
        """The same settings for the server, or servers, at `url`; raises `ConfigurationError`.

        The URL of an embedded server contains its credentials, which replace the settings' own; and
        its master keys are used if the settings have none.
        """
        nats = msgspec.structs.replace(self.nats, url=url)
        if not isinstance(url, LocalAddress):
            return msgspec.structs.replace(self, nats=nats)
        personal = self.personal
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
        return msgspec.structs.replace(self, nats=nats)

    def in_directory(self, directory: Path) -> Settings:
        """With the read model in this directory, unless another place is set."""
        if self.read_model != ReadModelSettings():
            return self
        read_model = ReadModelSettings(database=str(directory / "read_model.sqlite"))
        return msgspec.structs.replace(self, read_model=read_model)


def _leaves(table: type[Struct], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for field in msgspec.structs.fields(table):
        key = f"{prefix}{field.name}"
        yield key, field.type
        if is_table(field.type):
            yield from _leaves(field.type, f"{key}.")


KINDS: Mapping[str, Any] = {key: kind for key, kind in _leaves(Settings) if not is_table(kind)}
"""The type of each setting, by its path, such as `streams.replicas`."""

TABLES: Mapping[str, type[Table]] = {key: kind for key, kind in _leaves(Settings) if is_table(kind)}
"""The tables, by their paths."""
