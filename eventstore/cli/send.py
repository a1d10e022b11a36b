"""`eventstore send`: one command to a running service, and its outcome."""

from __future__ import annotations

import asyncio
import os

import msgspec

from eventstore import nix
from eventstore.cli.connecting import connected
from eventstore.commands import CommandClient, Outcome
from eventstore.config import Settings
from eventstore.errors import InvalidSubject
from eventstore.messages.envelope import check_message_id
from eventstore.messages.subjects import Subject

__all__ = ["EXIT_STATUS", "send"]

EXIT_STATUS = {"success": 0, "rejected": 1, "error": 2}


async def send(
    settings: Settings,
    subject: str,
    aggregate_id: str | None,
    data: str,
    *,
    command_id: str,
    actor: str | None,
    timeout: float,
) -> Outcome:
    """Execute one command within `timeout` seconds.

    Raises `InvalidMessage` for what may not be sent, `CommandTimeout`, and `ClientError`.
    """
    deadline = asyncio.get_running_loop().time() + timeout
    check_message_id(command_id)
    codec = nix.domain(settings.nats.subject_prefix).codec
    parsed = Subject.parse(subject)
    if parsed.domain != codec.domain or parsed.kind != "cmd":
        raise InvalidSubject(f"subject {subject!r} does not begin with {codec.domain}.cmd.")
    # The bytes as they were typed, also where they are no text.
    command = codec.decode_command(parsed.aggregate, parsed.action, os.fsencode(data))
    async with (
        connected(_hasty(settings, timeout)) as client,
        CommandClient(client, codec) as commands,
    ):
        left = deadline - asyncio.get_running_loop().time()
        return await commands.execute(
            command, aggregate_id, command_id=command_id, actor=actor, timeout=max(left, 0.001)
        )


def _hasty(settings: Settings, timeout: float) -> Settings:
    """The settings with no more than `timeout` seconds for finding a server, the last try too."""
    retry, servers = settings.nats.retry, len(settings.nats.servers)
    one_try = min(retry.connect_timeout_ms, max(1, int(timeout * 1000 / servers)))
    left = max(0, int(timeout * 1000) - one_try * servers)
    retry = msgspec.structs.replace(
        retry,
        connect_timeout_ms=one_try,
        first_connect_ms=min(retry.first_connect_ms or 0, left),
    )
    return msgspec.structs.replace(
        settings, nats=msgspec.structs.replace(settings.nats, retry=retry)
    )
