"""A log that went back: restored from an older copy, under read models that have seen more.

What the service has to do then is nothing: no event, no publication, no outcome, however often its
supervisor starts it again; also when the log has grown past the checkpoints with another history.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from nats.aio.client import Client as Nats

from tests.fault.checker import raw
from tests.fault.checker.system import DOMAIN, Service, Shape, System
from tests.integration.commanding import until

_WATCHED_SECONDS = 15.0
_ANSWER_SECONDS = 30.0

Report = Callable[[str], None]


async def check_went_back(directory: Path, report: Report = lambda _: None) -> list[str]:
    """Restore an older log twice; returns what the service did all the same."""
    async with System(directory, Shape(small_disks=False, fake_time=False)) as system:
        (service,) = system.services
        await _carried_out(system, "before", 5)
        copy = await _copied(system)
        await _carried_out(system, "lost", 5)
        await _shown(system)
        await service.stop()
        await _restored(system, copy)
        findings = [
            f"behind the checkpoints: {what}" for what in await _decides(system, service, report)
        ]
        # A read model that never saw what is lost takes part in another history.
        own = {"EVENTSTORE_DATABASE": str(directory / "other.sqlite")}
        other = Service("other", directory, service.environ | own)
        await other.start()
        await _carried_out(system, "other", 20)
        await other.stop()
        findings += [f"past them: {what}" for what in await _decides(system, service, report)]
    return findings


async def _carried_out(system: System, account: str, count: int) -> None:
    """Have so many commands carried out, as any client would."""
    async with _client(system) as client:
        replies = await client.subscribe(f"_INBOX.{account}")
        for number in range(count):
            action, data = ("deposit", {"amounts": [1]}) if number else ("open", {"limit": 0})
            await _sent(client, action, account, data)
            outcome = json.loads((await replies.next_msg(_ANSWER_SECONDS)).data)
            assert outcome["status"] == "success", outcome


async def _sent(client: Nats, action: str, account: str, data: dict[str, Any]) -> None:
    headers = {"X-Aggregate-ID": account, "X-Reply-To": f"_INBOX.{account}"}
    subject = f"{DOMAIN}.cmd.account.{action}"
    await client.request(subject, json.dumps(data).encode(), 5, headers=headers)


async def _shown(system: System) -> None:
    """Return when the read models and the event stream have all of it."""
    async with _client(system) as client:
        streams = raw.Streams(client, DOMAIN)

        async def is_shown() -> bool:
            left = await streams.pending()
            return not left and not [*raw.behind(system.database, await streams.end())]

        await until(is_shown, _ANSWER_SECONDS)


async def _copied(system: System) -> Path:
    """A copy of what the server has stored by now."""
    (server,) = system.servers
    copy = system.directory / "copy"
    await server.stop()
    await asyncio.to_thread(shutil.copytree, server.data_directory / "jetstream", copy)
    await server.start()
    return copy


async def _restored(system: System, copy: Path) -> None:
    (server,) = system.servers
    await server.stop()
    await asyncio.to_thread(shutil.rmtree, server.data_directory / "jetstream")
    await asyncio.to_thread(shutil.copytree, copy, server.data_directory / "jetstream")
    await server.start()


async def _decides(system: System, service: Service, report: Report) -> list[str]:
    """What a service changes that must not start on this log, while commands wait for it."""
    async with _client(system) as client:
        for _ in range(3):
            await _sent(client, "deposit", "before", {"amounts": [1]})
        before = await _stored(client)
        service.restarts = 0
        await service.start(wait=False)
        await asyncio.sleep(_WATCHED_SECONDS)  # what must not happen is not waited for otherwise
        report(f"in {_WATCHED_SECONDS:g} s it has ended {service.restarts} times")
        await service.stop()
        after = await _stored(client)
    return [
        f"{name}: {len(after[name]) - len(before[name])} more messages"
        for name in before
        if after[name] != before[name]
    ]


async def _stored(client: Nats) -> dict[str, list[Any]]:
    """What only a service that decides changes."""
    streams = raw.Streams(client, DOMAIN)
    outcomes = await streams.outcomes()
    return {
        "events": [*await streams.messages("LOG")],
        "publications": [*await streams.messages("EVENT")],
        "outcomes": sorted(outcomes),
    }


@asynccontextmanager
async def _client(system: System) -> AsyncIterator[Nats]:
    client = await system.connect()
    try:
        yield client
    finally:
        await client.close()
