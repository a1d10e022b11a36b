"""Loads the settings: defaults, then a TOML file, then the environment, then options.

A later source overrides an earlier one key by key. Relative paths of any source are relative to the
working directory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from eventstore.config.checks import check_delays, check_file, check_inboxes, converted
from eventstore.config.contexts import from_context
from eventstore.config.environment import CONFIG, from_environment, variables
from eventstore.config.settings import KINDS, NatsSettings, RetrySettings, Settings, is_table
from eventstore.config.toml_file import from_file
from eventstore.config.values import LocalAddress
from eventstore.errors import ConfigurationError

CONTEXT = "nats.context"
"""The key that names a context, from which settings are then read."""

READ: Mapping[str, Any] = {CONTEXT: str, **KINDS}
"""The type of each key that a file or the environment may have."""

_FILES = (
    "nats.auth.credentials_file",
    "nats.auth.nkey_seed_file",
    "nats.tls.ca_file",
    "nats.tls.cert_file",
    "nats.tls.key_file",
    "personal.master_key_file",
    "console.tokens_file",
)


class _RawValue(NamedTuple):
    value: Any
    source: str


_Entry = tuple[str, object, str]  # dotted key, raw value, source


def load_settings(
    config_file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    nats_url: str | None = None,
    database: str | None = None,
    context: str | None = None,
    inbox_prefix: str | None = None,
    jetstream_domain: str | None = None,
    api_prefix: str | None = None,
    processes: int | None = None,
) -> Settings:
    """Read the settings; the keyword arguments are the command line's, and override all else.

    Without `config_file`, `EVENTSTORE_CONFIG` may name the TOML file. `environ` is the process's
    own environment unless given; an empty variable counts as unset. `context` names a context of
    the NATS command line (`@selected` the selected one), as `NATS_CONTEXT` and the key
    `nats.context` of the file do. What it has is overridden by the environment, and it overrides
    the file, unless that names it. With the URL of an embedded server only a `context` given here
    is read, because others are for another server.

    Raises `ConfigurationError`, with source and key, for settings that are unknown, malformed, out
    of range, incomplete or contradictory. Whether a server can be reached, or accepts the
    credentials, is not checked here.
    """
    environ = os.environ if environ is None else environ
    options = (
        ("nats.url", None if isinstance(nats_url, LocalAddress) else nats_url, "--nats-url"),
        ("read_model.database", database, "--database"),
        (CONTEXT, context, "--context"),
        ("nats.inbox_prefix", inbox_prefix, "--inbox-prefix"),
        ("nats.jetstream_domain", jetstream_domain, "--js-domain"),
        ("nats.api_prefix", api_prefix, "--js-api-prefix"),
        ("operations.processes", processes, "--processes"),
    )
    outside = [
        *from_environment(environ, READ),
        *(option for option in options if option[1] is not None),
    ]
    file = [*_from_file(config_file, environ)]
    if isinstance(nats_url, LocalAddress) and context is None:
        file, outside = [*_without_context(file)], [*_without_context(outside)]
    given: dict[str, _RawValue] = {}
    for key, value, source in _with_contexts(file, outside, environ):
        given[key] = _RawValue(converted(key, READ[key], value, source), source)
        if key in _FILES:
            check_file(given[key].value, source)
    _check_given(given)
    settings = Settings(**_tables(Settings, given))
    return settings.with_url(nats_url) if isinstance(nats_url, LocalAddress) else settings


def _with_contexts(
    file: list[_Entry], outside: list[_Entry], environ: Mapping[str, str]
) -> Iterator[_Entry]:
    """What the file has and what is outside of it, with the context below what names it."""
    if (named := _context_in(file)) and not _context_in(outside):
        yield from from_context(*named, environ)
    yield from _without_context(file)
    if named := _context_in(outside):
        yield from from_context(*named, environ)
    yield from _without_context(outside)


def _from_file(path: Path | None, environ: Mapping[str, str]) -> Iterator[_Entry]:
    if path is not None:
        yield from from_file(path, "", READ)
    elif environ.get(CONFIG):
        yield from from_file(Path(environ[CONFIG]), f" (named by {CONFIG})", READ)


def _context_in(entries: list[_Entry]) -> tuple[str, str] | None:
    """The context that is named last, and by which source."""
    found = [(value, source) for key, value, source in entries if key == CONTEXT]
    return (converted(CONTEXT, str, *found[-1]), found[-1][1]) if found else None


def _without_context(entries: list[_Entry]) -> Iterator[_Entry]:
    return (each for each in entries if each[0] != CONTEXT)


def _tables(table: type[Struct], given: Mapping[str, _RawValue], prefix: str = "") -> Any:
    values: dict[str, Any] = {}
    for field in msgspec.structs.fields(table):
        key = f"{prefix}{field.name}"
        if is_table(field.type):
            values[field.name] = field.type(**_tables(field.type, given, f"{key}."))
        elif key in given:
            values[field.name] = given[key].value
    return values


def _check_given(given: Mapping[str, _RawValue]) -> None:
    """Refuse what is incomplete, or given in more than one way."""
    if "nats.url" in given and not given["nats.url"].value:
        raise ConfigurationError(f"{given['nats.url'].source}: names no server")
    _check_delays(given)
    _check_inboxes(given)
    _check_pair("nats.auth.user", "nats.auth.password", given)
    _check_pair("nats.tls.cert_file", "nats.tls.key_file", given)
    credentials = ("user", "token", "credentials_file", "nkey_seed_file")
    sources = _sources([f"nats.auth.{each}" for each in credentials], given)
    if "nats.url" in given and any("@" in url for url in given["nats.url"].value):
        sources.append(given["nats.url"].source)
    _check_one("credentials are", sources, "keep one")
    sources = _sources(["nats.jetstream_domain", "nats.api_prefix"], given)
    _check_one("JetStream's API is", sources, "keep one")
    sources = _sources(["personal.master_key", "personal.master_key_file"], given)
    _check_one("master keys are", sources, "keep one, which may hold several keys")


def _sources(keys: list[str], given: Mapping[str, _RawValue]) -> list[str]:
    return [given[key].source for key in keys if key in given]


def _check_one(what: str, sources: list[str], advice: str) -> None:
    if len(sources) > 1:
        raise ConfigurationError(
            f"{what} given in more than one way: {', '.join(sources)}; {advice}"
        )


def _check_pair(one: str, other: str, given: Mapping[str, _RawValue]) -> None:
    for present, missing in ((one, other), (other, one)):
        if present in given and missing not in given:
            raise ConfigurationError(
                f"{given[present].source} is given without {missing} or {variables(missing)[0]}"
            )


def _check_delays(given: Mapping[str, _RawValue]) -> None:
    keys = ["nats.retry.reconnect_delay_ms", "nats.retry.max_reconnect_delay_ms"]
    default = RetrySettings()
    first = _value(given, keys[0], default.reconnect_delay_ms)
    longest = _value(given, keys[1], default.max_reconnect_delay_ms)
    check_delays(" and ".join(_sources(keys, given)), first, longest)


def _check_inboxes(given: Mapping[str, _RawValue]) -> None:
    domain = _value(given, "nats.subject_prefix", NatsSettings().subject_prefix)
    for key in ("nats.inbox_prefix", "nats.reply_prefixes"):
        if key in given:
            check_inboxes(given[key].source, given[key].value, domain)


def _value(given: Mapping[str, _RawValue], key: str, default: Any) -> Any:
    return given[key].value if key in given else default
