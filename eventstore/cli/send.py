"""`eventstore send`: one command to a running service, and its outcome."""

from __future__ import annotations

from eventstore import nix
from eventstore.client import connect
from eventstore.commands import CommandClient, Outcome
from eventstore.config import Settings
from eventstore.envelope import check_message_id, new_id
from eventstore.errors import EventStoreError, InvalidSubject
from eventstore.subjects import Subject

__all__ = ["EXIT_STATUS", "send"]

EXIT_STATUS = {"success": 0, "rejected": 1, "error": 2}


async def send(
    settings: Settings,
    subject: str,
    aggregate_id: str | None,
    data: str,
    *,
    command_id: str | None,
    actor: str | None,
    timeout: float,
) -> Outcome:
    """Execute one command; whatever goes wrong becomes an outcome with status "error"."""
    own = command_id or new_id()
    try:
        check_message_id(own)
        codec = nix.domain(settings.nats.subject_prefix).codec
        parsed = Subject.parse(subject)
        if parsed.domain != codec.domain or parsed.kind != "cmd":
            raise InvalidSubject(f"subject {subject!r} does not begin with {codec.domain}.cmd.")
        command = codec.decode_command(parsed.aggregate, parsed.action, data.encode())
        async with connect(settings) as client, CommandClient(client, codec) as commands:
            return await commands.execute(
                command, aggregate_id, command_id=own, actor=actor, timeout=timeout
            )
    except EventStoreError as error:
        return Outcome.error(error, own, aggregate_id=aggregate_id)
