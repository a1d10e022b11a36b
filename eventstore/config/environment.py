"""The environment as a source of settings: the names of each, and values from text.

Every setting has a name that follows from its path (`streams.replicas` is
`EVENTSTORE_STREAMS_REPLICAS`); some have a shorter one, or that of the NATS command line, too.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping

from msgspec import inspect

from eventstore.config.checks import allowed, value_type
from eventstore.errors import ConfigurationError

PREFIX = "EVENTSTORE_"
CONFIG = "EVENTSTORE_CONFIG"
"""Names the TOML file; it is the only variable that is known and no setting."""

_SHORT: Mapping[str, tuple[str, ...]] = {
    "nats.context": ("NATS_CONTEXT",),
    "nats.url": ("NATS_URL",),
    "nats.auth.user": ("NATS_USER",),
    "nats.auth.password": ("NATS_PASSWORD",),
    "nats.auth.token": ("NATS_TOKEN",),
    "nats.auth.credentials_file": ("NATS_CREDS",),
    "nats.auth.nkey_seed_file": ("NATS_NKEY_SEED_FILE", "NATS_NKEY"),
    "nats.tls.ca_file": ("NATS_CA",),
    "nats.tls.cert_file": ("NATS_CERT",),
    "nats.tls.key_file": ("NATS_KEY",),
    "nats.inbox_prefix": ("NATS_INBOX_PREFIX",),
    "nats.api_prefix": ("NATS_API_PREFIX",),
    "nats.reply_prefixes": ("NATS_REPLY_PREFIXES",),
    "read_model.database": ("EVENTSTORE_DATABASE",),
    "operations.processes": ("EVENTSTORE_PROCESSES",),
    "personal.master_key": ("EVENTSTORE_MASTER_KEY",),
    "personal.master_key_file": ("EVENTSTORE_MASTER_KEY_FILE",),
}
_BOOLEANS = {"true": True, "1": True, "yes": True, "on": True}
_BOOLEANS |= {"false": False, "0": False, "no": False, "off": False}
# Kubernetes sets these for each service of the namespace, one named eventstore included.
_KUBERNETES = re.compile(r"_SERVICE_(HOST|PORT(_.+)?)$|_PORT(_\d+_[A-Z]+(_(PROTO|PORT|ADDR))?)?$")


def variables(key: str) -> tuple[str, ...]:
    """The environment variables of a setting; the last one follows from its path."""
    return (*_SHORT.get(key, ()), PREFIX + key.replace(".", "_").upper())


def from_environment(
    environ: Mapping[str, str], kinds: Mapping[str, object]
) -> Iterator[tuple[str, object, str]]:
    """Each setting that is given: its key, its value and its variable.

    An empty variable counts as unset. Raises `ConfigurationError` for a variable that is not known,
    and for a setting that two variables give different values.
    """
    _check_known({name for name in environ if environ[name]}, kinds, environ)
    for key, kind in kinds.items():
        given = [name for name in variables(key) if environ.get(name)]
        if len({environ[name] for name in given}) > 1:
            raise ConfigurationError(f"{' and '.join(given)} are the same setting; keep one")
        if given:
            yield key, _parsed(key, kind, environ[given[0]], given[0]), given[0]


def _check_known(given: set[str], kinds: Mapping[str, object], environ: Mapping[str, str]) -> None:
    known = {name for key in kinds for name in variables(key)} | {CONFIG}
    for name in sorted(given - known):
        is_kubernetes = "KUBERNETES_SERVICE_HOST" in environ and _KUBERNETES.search(name)
        if not name.startswith(PREFIX) or is_kubernetes:
            continue
        near = _nearest(name.removeprefix(PREFIX), known)
        question = f"; did you mean {near}?" if near else ""
        raise ConfigurationError(f"the environment variable {name} is not known{question}")


def _nearest(name: str, known: set[str]) -> str | None:
    """The variable that has all words of the name, or else is spelled most like it."""
    names = sorted(each.removeprefix(PREFIX) for each in known if each.startswith(PREFIX))
    complete = [each for each in names if {*name.split("_")} <= {*each.split("_")}]
    near = difflib.get_close_matches(name, complete or names, n=1, cutoff=0 if complete else 0.6)
    return f"{PREFIX}{near[0]}" if near else None


def _parsed(key: str, kind: object, text: str, source: str) -> object:
    match value_type(kind):
        case inspect.IntType():
            if not re.fullmatch(r"[+-]?[0-9][0-9_]{0,30}", text.strip()):
                raise ConfigurationError(
                    f"{source}: {text!r} is not a whole number; allowed: {allowed(key, kind)}"
                )
            return int(text.strip().replace("_", ""))
        case inspect.BoolType():
            if text.strip().lower() not in _BOOLEANS:
                raise ConfigurationError(f"{source}: {text!r} is neither true nor false")
            return _BOOLEANS[text.strip().lower()]
        case _:
            return text
