"""Hostile messages for every public subject of the checker's service."""

from __future__ import annotations

import random
from typing import Any, NamedTuple
from uuid import UUID

from tests.fault.checker.system import DOMAIN
from tests.fuzz import hostile

_COMMANDS: dict[str, dict[str, Any]] = {
    "open": {"limit": 10},
    "change_limit": {"limit": 10},
    "deposit": {"amounts": [1, 2]},
    "withdraw": {"amount": 1},
    "transfer": {"target": "a1", "amount": 1},
    "receive": {"transfer": "x", "amount": 1},
    "refund": {"transfer": "x", "amount": 1},
}
_QUERIES: dict[str, dict[str, Any]] = {
    "account.get": {"id": "a1"},
    "command.get_status": {"command_id": "00000000-0000-4000-8000-000000000000"},
    "audit.search": {"aggregate": "account"},
    "audit.trace": {"id": "00000000-0000-4000-8000-000000000000"},
    "audit.history": {"aggregate": "account", "id": "a1"},
}
_ENDPOINTS = (
    *(f"health.{DOMAIN}", f"discovery.{DOMAIN}", f"metrics.{DOMAIN}"),
    *("$SRV.PING", "$SRV.INFO", "$SRV.STATS", f"$SRV.PING.{DOMAIN}", f"$SRV.INFO.{DOMAIN}"),
)
_SETTINGS = ("log_level", "projections.paused", "commands.queue_limit", "nonsense")
_WEIGHTS = {
    "command": 10,
    "query": 6,
    "endpoint": 2,
    "announcement": 0.2,
    "log": 2,
    "event": 1,
    "timer": 1,
    "setting": 0.5,
    "subject": 1,
}


class Hostile(NamedTuple):
    """A message, and what kind of it."""

    kind: str
    subject: bytes
    headers: bytes | None
    payload: bytes

    @property
    def is_answered(self) -> bool:
        """Whether somebody has to answer it."""
        return self.kind not in ("subject", "announcement")


def message(chance: random.Random) -> Hostile:
    """One message of a kind at random."""
    (kind,) = chance.choices([*_WEIGHTS], [*_WEIGHTS.values()])
    subject, good, names = _FORMS[kind](chance)
    written = hostile.changed(chance, subject.encode()) if kind == "subject" else subject.encode()
    headers = hostile.headers(chance, names)
    payload = hostile.payload(chance, good)
    return Hostile(kind, _token(written), headers, payload)


def _token(subject: bytes) -> bytes:
    """A subject that is one word of the protocol, for any other ends the connection."""
    return subject.translate(None, b" \t\r\n\0") or b"x"


_Form = tuple[str, dict[str, Any], dict[str, str]]


def _command(chance: random.Random) -> _Form:
    action, data = chance.choice([*_COMMANDS.items()])
    command_id = str(UUID(int=chance.getrandbits(128), version=4))
    headers = {"X-Aggregate-ID": f"a{chance.randrange(50)}", "Nats-Msg-Id": command_id}
    if chance.random() < 0.5:
        headers |= {"X-Event-ID": command_id, "X-Event-Type": action.title().replace("_", "")}
    action = action if chance.random() < 0.9 else "unknown"
    return f"{DOMAIN}.cmd.account.{action}", data, headers


def _query(chance: random.Random) -> _Form:
    name, data = chance.choice([*_QUERIES.items()])
    headers = {"X-Wait-Position": "1"} if chance.random() < 0.2 else {}
    return f"{DOMAIN}.query.{name}", data, headers


def _endpoint(chance: random.Random) -> _Form:
    return chance.choice(_ENDPOINTS), {"x": 1}, {}


def _announcement(chance: random.Random) -> _Form:
    return chance.choice(["discovery.announce", f"$SRV.INFO.{DOMAIN}.nobody"]), {"x": 1}, {}


def _log(chance: random.Random) -> _Form:
    """What somebody may write who has the right to, and is not the store: a foreign message."""
    headers = {"X-Event-ID": str(UUID(int=chance.getrandbits(128), version=4))}
    headers |= {"X-Event-Type": "Deposited", "X-Aggregate-Version": str(chance.randrange(5))}
    return f"{DOMAIN}.log.account.a{chance.randrange(50)}", {"amount": 1_000}, headers


def _event(chance: random.Random) -> _Form:
    return f"{DOMAIN}.event.account.deposited", {"amount": 1_000}, {"X-Position": "1"}


def _timer(chance: random.Random) -> _Form:
    due = {"Nats-Schedule": "@at 2090-01-01T00:00:00Z"}
    due |= {"Nats-Schedule-Target": f"{DOMAIN}.due.account.deposit"}
    return f"{DOMAIN}.timer.t{chance.randrange(9)}.account.deposit", {"amounts": [1]}, due


def _setting(chance: random.Random) -> _Form:
    return f"$KV.{DOMAIN.upper()}_CONFIG.{chance.choice(_SETTINGS)}", {"no": "setting"}, {}


def _subject(chance: random.Random) -> _Form:
    return chance.choice([_command, _query, _log])(chance)


_FORMS = {
    "command": _command,
    "query": _query,
    "endpoint": _endpoint,
    "announcement": _announcement,
    "log": _log,
    "event": _event,
    "timer": _timer,
    "setting": _setting,
    "subject": _subject,
}
