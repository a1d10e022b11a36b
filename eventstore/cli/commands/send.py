"""`eventstore send`: send one command to a running service, and print its outcome."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from eventstore.cli.options import ClientSession, Json, Timeout, with_retry
from eventstore.cli.output.outcomes import EXIT_STATUS, print_outcome
from eventstore.cli.output.terminal import Terminal, say
from eventstore.cli.session import Session
from eventstore.cli.typed import CommandPayload, CommandSubject, typed_command
from eventstore.commands import CommandClient, Outcome
from eventstore.config import Settings
from eventstore.errors import CommandTimeout, EventStoreError
from eventstore.messages.envelope import check_message_id, new_id
from eventstore.messages.text import encodable


async def send(
    session: ClientSession,
    subject: CommandSubject,
    aggregate_id: Annotated[
        str | None,
        typer.Option(
            "--id",
            metavar="ID",
            help="The aggregate's id; only a command that creates one can do without.",
        ),
    ] = None,
    payload: CommandPayload = "{}",
    command_id: Annotated[
        str | None,
        typer.Option(metavar="UUID", help="The command's id; repeating it has no further effect."),
    ] = None,
    actor: Annotated[
        str | None, typer.Option(metavar="NAME", help="On whose behalf it is sent.")
    ] = None,
    expected: Annotated[
        int | None,
        typer.Option(
            metavar="VERSION", min=0, help="Reject it unless the aggregate has this version."
        ),
    ] = None,
    timeout: Timeout = 10.0,
    json: Json = False,
) -> None:
    """Execute one command, and print its outcome.

    A running service executes it. Ends with status 0 for success, 1 if it was rejected, 2 for an
    error.
    """
    own = command_id or new_id()
    try:
        outcome = await _execute(
            session, subject, aggregate_id, payload, own, timeout, actor=actor, expected=expected
        )
    except EventStoreError as error:
        outcome = Outcome(
            status="error",
            message=encodable(str(error)),
            code=error.code,
            command_id=encodable(own),
            aggregate_id=None if aggregate_id is None else encodable(aggregate_id),
        )
    if json:
        say(outcome.to_json().decode())
    else:
        print_outcome(Terminal(), outcome)
    raise typer.Exit(EXIT_STATUS[outcome.status])


async def _execute(
    session: Session,
    subject: str,
    aggregate_id: str | None,
    data: str,
    command_id: str,
    timeout: float,
    **options: Any,
) -> Outcome:
    """Execute one command within `timeout` seconds.

    Raises `InvalidMessage` for what may not be sent, `CommandTimeout`, and `ClientError`.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    check_message_id(command_id)
    codec = session.codec
    command = typed_command(codec, subject, data)
    async with (
        session.connect(_with_connect_timeout(session.settings, timeout)) as client,
        CommandClient(client, codec) as commands,
    ):
        left = max(deadline - loop.time(), 0.001)
        try:
            return await commands.execute(
                command, aggregate_id, command_id=command_id, timeout=left, **options
            )
        except CommandTimeout:  # which names the seconds that connecting has left
            raise CommandTimeout(command_id, timeout) from None


def _with_connect_timeout(settings: Settings, timeout: float) -> Settings:
    """The settings with at most `timeout` seconds for connecting, the last attempt included."""
    retry, servers = settings.nats.retry, len(settings.nats.servers)
    attempt_ms = min(retry.connect_timeout_ms, max(1, int(timeout * 1000 / servers)))
    left = max(0, int(timeout * 1000) - attempt_ms * servers)
    first_ms = min(retry.first_connect_ms or 0, left)
    return with_retry(settings, connect_timeout_ms=attempt_ms, first_connect_ms=first_ms)
