"""Helpers for tests of operations: parked messages, and subcommands that must succeed."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import nats
from nats.aio.client import Client as PlainClient

from tests.integration.command_line import CommandLine, ProcessResult

CREATE = ("send", "nix.cmd.flake.create", "--data", '{"path": "./x", "description": "x"}')


@asynccontextmanager
async def plain(service: CommandLine) -> AsyncIterator[PlainClient]:
    assert service.server_url is not None
    connection = await nats.connect(service.server_url)
    try:
        yield connection
    finally:
        await connection.close()


def good(ended: ProcessResult) -> list[str]:
    assert (ended.status, ended.err) == (0, ""), ended
    return ended.lines


def park(service: CommandLine, aggregate_id: str, payload: bytes = b"{") -> str:
    """Send a command that cannot be decoded; its id."""

    async def send() -> str:
        own = str(uuid.uuid4())
        async with plain(service) as connection:
            inbox = connection.new_inbox()
            answers = await connection.subscribe(inbox)
            headers = {"X-Event-ID": own, "X-Aggregate-ID": aggregate_id, "X-Reply-To": inbox}
            await connection.jetstream().publish("nix.cmd.flake.create", payload, headers=headers)
            answer = await answers.next_msg(timeout=20)
        assert json.loads(answer.data)["status"] == "error"
        return own

    return asyncio.run(send())


def new_aggregate() -> str:
    return f"f-{uuid.uuid4()}"
