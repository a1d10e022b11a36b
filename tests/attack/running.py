"""Running attacks: each try as a plain client would, and what became of the streams by it."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import nats
from nats.aio.client import Client as Nats
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from eventstore import Client, CommandClient, nix
from eventstore.errors import JetStreamError, RequestTimeout
from eventstore.jetstream.direct_get import DirectReader
from eventstore.service.runtime_config import KEYS
from tests.attack.attacks import (
    KEY_OWNER,
    OTHERS_INBOX,
    SENDERS,
    TIMER,
    Attack,
    Try,
    attacks,
    is_a_right,
)
from tests.integration.commanding import until
from tests.shipped import USERS, ShippedServers

BOUND = 45.0
_STREAMS = ("LOG", "TIMER", "CMD", "EVENT", "PARKED", "ACTION")
_BUCKETS = ("SNAPSHOTS", "OUTCOMES", "CONFIG", "KEYS")
_OWN = ("NIX_CMD", "NIX_PARKED", "KV_NIX_OUTCOMES")
"""What grows by commands, which some roles may send."""

State = Mapping[str, tuple[object, ...]]

OWN = re.compile(r"\$KV\.NIX_CONFIG\.(feed|heartbeat|log)\.")
"""The subjects of what the service itself keeps in the bucket of the configuration."""


class Result(NamedTuple):
    """What an attack got, and what it has done; harmless where the latter is nothing."""

    role: str
    attack: Attack
    attempts: int
    got: str
    harm: tuple[str, ...]


@contextmanager
def attacked_service(
    directory: Path, accounts: str | None = None, servers: int = 1
) -> Iterator[ShippedServers]:
    """A service of the Nix domain on a server, or three, with the shipped configuration.

    With `accounts`, other ones than those that ship, to see what is noticed.
    """
    with (
        ShippedServers(directory, servers).running(accounts) as shipped,
        shipped.command_line("service").serving(),
    ):
        for line in (
            ("send", "nix.cmd.flake.create", "--id", "one", "--data", _FLAKE),
            ("send", "nix.cmd.config.create", "--id", "h", "--data", _CONFIGURATION),
        ):
            shipped.command_line("admin").call(*line)
        asyncio.run(until_led(shipped))
        asyncio.run(_set_timer(shipped))
        yield shipped


async def _set_timer(shipped: ShippedServers) -> None:
    """A timer of the service, which nobody may touch."""
    async with (
        shipped.client("service") as service,
        CommandClient(service, nix.domain("nix").codec) as commands,
    ):
        rollback = nix.RollbackConfiguration()
        await commands.schedule(TIMER, rollback, "h", after=timedelta(days=365))


async def until_led(shipped: ShippedServers) -> None:
    """Return when every stream has a leader, and the servers that follow are up to date."""
    async with shipped.client("service") as service:

        async def are_led() -> bool:
            try:
                infos = [await service.api(f"STREAM.INFO.NIX_{name}") for name in _STREAMS]
            except (JetStreamError, RequestTimeout):
                return False
            clusters = [info.get("cluster", {"leader": "the only one"}) for info in infos]
            return all(
                each.get("leader") and all(peer["current"] for peer in each.get("replicas") or [])
                for each in clusters
            )

        await until(are_led, BOUND)


_FLAKE = '{"path": "./one", "description": ""}'
_CONFIGURATION = '{"name": "host", "modules": []}'


async def run_attacks(
    shipped: ShippedServers, role: str, aims: Collection[str] = (), *, together: bool = False
) -> AsyncIterator[Result]:
    """Try every attack as a role, one after another; or only those with some aims.

    With `together`, those with the same kind of harm are tried as one, which is faster, and does
    not say which of them has done it.
    """
    chosen = [each for each in attacks() if not aims or each.aim in aims]
    async with shipped.client("service") as service, _watching(shipped, role) as watched:
        await service.request(f"$KV.NIX_KEYS.{KEY_OWNER}", b"a key that nobody may read")
        async with _attacker(shipped, role) as attacker:
            battle = _Battle(service, watched, attacker, role)
            for attack in _merged(chosen) if together else chosen:
                yield await battle.fight(attack)


def _merged(several: Sequence[Attack]) -> Iterator[Attack]:
    for harm in dict.fromkeys(each.harm for each in several):
        of_kind = [each for each in several if each.harm == harm]
        tries = [each for attack in of_kind for each in attack.tries]
        yield Attack("; ".join(each.aim for each in of_kind), tries, harm)


class _Attacker:
    """A plain client, which hears what the server forbids it."""

    def __init__(self, role: str) -> None:
        self.inbox = f"_INBOX_c.{role}.attacker"
        self.forbidden = 0
        self.nats = Nats()

    async def failed(self, error: Exception) -> None:
        # A TLS connection that closes while the server still sends reports that here, too.
        if self.nats.is_closed:
            return
        assert "permissions violation" in str(error), error
        self.forbidden += 1


@asynccontextmanager
async def _attacker(shipped: ShippedServers, role: str) -> AsyncIterator[_Attacker]:
    attacker = _Attacker(role)
    attacker.nats = await nats.connect(
        shipped.url.split(","),
        user=role,
        password=role,
        tls=ssl.create_default_context(cafile=str(shipped.directory / "ca.pem")),
        error_cb=attacker.failed,
        allow_reconnect=False,
    )
    try:
        yield attacker
    finally:
        await attacker.nats.close()


class _OtherUsers(NamedTuple):
    """Other users, who go on working; `heard` is what they got and have not asked for."""

    clients: Mapping[str, Client]
    heard: list[str]

    async def work(self) -> None:
        """Have something pass over every inbox; returns when all of it is answered."""
        await asyncio.gather(
            *(each.request("nix.query.audit.search", b"{}") for each in self.clients.values())
        )
        await self.clients["onlooker"].request("health.nix")
        await self.clients["onlooker"].request("$SRV.PING")
        for client in self.clients.values():
            await client.flush()


@asynccontextmanager
async def _watching(shipped: ShippedServers, attacker: str) -> AsyncIterator[_OtherUsers]:
    others = [user for user in USERS if user not in (attacker, "service")]
    clients = {user: await Client.open(shipped.settings(user)) for user in others}
    watched = _OtherUsers(clients, [])

    async def hear(message: Msg) -> None:
        if b'"service"' not in message.data:  # an announcement of the service itself
            watched.heard.append(f"{message.subject} of another user got {message.data[:60]!r}")

    try:
        for user, client in clients.items():
            await client.subscribe(OTHERS_INBOX.format(role=user), hear)
        await clients["onlooker"].subscribe("discovery.announce", hear)
        await clients["onlooker"].subscribe("nix.event.>", hear)
        yield watched
    finally:
        for client in clients.values():
            await client.close()


class _Battle:
    """One role against the service, and the streams as they were before."""

    def __init__(
        self, service: Client, watched: _OtherUsers, attacker: _Attacker, role: str
    ) -> None:
        self._service = service
        self._watched = watched
        self._attacker = attacker
        self._role = role
        self._config = DirectReader(service, "KV_NIX_CONFIG")
        self._timers = DirectReader(service, "NIX_TIMER")
        self._before: State | None = None

    async def fight(self, attack: Attack) -> Result:
        before = self._before or await self._state()
        self._watched.heard.clear()
        self._attacker.forbidden = 0
        answers: list[Msg] = []
        tries = [each for each in attack.tries if not is_a_right(self._role, each)]

        async def receive(message: Msg) -> None:
            answers.append(message)

        inbox = await self._attacker.nats.subscribe(f"{self._attacker.inbox}.*", cb=receive)
        heard = [await self._try(each, number) for number, each in enumerate(tries)]
        await self._attacker.nats.flush()
        await self._watched.work()
        await self._attacker.nats.flush()
        for subscription in heard:
            if subscription is not None:
                await subscription.unsubscribe()
        await inbox.unsubscribe()
        self._before = await self._state()
        harm = [*self._changes(before, self._before), *self._watched.heard]
        if attack.harm != "effect":
            harm += [_shown(answer) for answer in answers if _is_data(answer)]
        got = self._got(tries, answers)
        return Result(self._role, attack, len(tries), got, tuple(harm))

    async def _try(self, each: Try, number: int) -> Subscription | None:
        nats = self._attacker.nats
        own = f"{self._attacker.inbox}.{number}"
        if each.listens:
            return await nats.subscribe(each.subject, cb=self._overhear)
        payload = each.payload.replace(b"{role}", self._role.encode())
        await nats.publish(each.subject, payload, each.reply or own, headers=dict(each.headers))
        return None

    async def _overhear(self, message: Msg) -> None:
        self._watched.heard.append(f"overheard {message.subject}")

    def _got(self, tries: list[Try], answers: list[Msg]) -> str:
        counts = Counter(_kind(answer) for answer in answers)
        counts["forbidden"] = self._attacker.forbidden
        counts["without answer"] = len(tries) - sum(counts.values())
        return ", ".join(f"{count} {what}" for what, count in counts.items() if count > 0)

    def _changes(self, before: State, after: State) -> Iterator[str]:
        for stream, was in before.items():
            is_own = self._role in SENDERS and stream in _OWN
            if after[stream] != was and not (is_own and _has_grown(was, after[stream])):
                yield f"{stream} was {was}, and is {after[stream]}"

    async def _state(self) -> State:
        """Each stream: when it was made, its subjects, first, last and how many messages."""
        await until(self._is_idle, BOUND)
        names = [f"NIX_{name}" for name in _STREAMS] + [f"KV_NIX_{name}" for name in _BUCKETS]
        return dict(zip(names, await asyncio.gather(*map(self._info, names)), strict=True))

    async def _is_idle(self) -> bool:
        if (await self._info("NIX_CMD"))[-1]:
            return False
        timers = await self._service.api("STREAM.INFO.NIX_TIMER", {"subjects_filter": ">"})
        return set(timers["state"].get("subjects") or ()) <= {f"nix.timer.{TIMER}"}

    async def _info(self, stream: str) -> tuple[object, ...]:
        info = await self._service.api(f"STREAM.INFO.{stream}")
        state = info["state"]
        if stream == "NIX_TIMER":
            guard = await self._timers.leader_last(f"nix.timer.{TIMER}")
            subjects = info["config"]["subjects"]
            return (info["created"], *subjects, guard and (guard.sequence, guard.payload))
        if stream == "KV_NIX_CONFIG":
            kept = [await self._config.leader_last(f"$KV.NIX_CONFIG.{key}") for key in KEYS]
            every = await self._service.api(f"STREAM.INFO.{stream}", {"subjects_filter": ">"})
            subjects = (each for each in every["state"]["subjects"] or () if not OWN.match(each))
            return (
                info["created"],
                *sorted(subjects),
                *(each and each.sequence for each in kept),
            )
        found = (state[key] for key in ("first_seq", "last_seq", "messages"))
        return (info["created"], *info["config"]["subjects"], *found)


def _has_grown(was: tuple[object, ...], now: tuple[object, ...]) -> bool:
    """Whether nothing is gone: a queue of commands is worked off, and the rest stays."""
    *identity, first, last, count = was
    *same, _, new_last, new_count = now
    worked_off = "nix.cmd.*.*" in identity
    kept = worked_off or (new_count - count >= 0 and (now[-3] == first or not count))  # type: ignore[operator]
    return identity == same and kept and new_last >= last  # type: ignore[operator]


def _kind(answer: Msg) -> str:
    if (answer.headers or {}).get("Status") == "503":
        return "to nobody"
    return "answered" if _is_data(answer) else "refused"


def _is_data(answer: Msg) -> bool:
    """Whether an answer is more than a refusal."""
    headers = answer.headers or {}
    if "Status" in headers or "Nats-Service-Error" in headers:
        return False
    try:
        return "error" not in json.loads(answer.data)
    except ValueError:
        return True


def _shown(answer: Msg) -> str:
    return f"answered: {answer.data[:80]!r}"
