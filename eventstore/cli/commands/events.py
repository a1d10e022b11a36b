"""`eventstore events`: print the log."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Annotated, TypeVar

import typer

from eventstore.cli.options import AggregateId, AggregateName, ClientSession, Json
from eventstore.cli.output.events import event_json, event_line, foreign_json, foreign_line
from eventstore.cli.output.terminal import say
from eventstore.cli.session import Session
from eventstore.messages.events import LogEvent
from eventstore.messages.subjects import check_aggregate_id
from eventstore.store.foreign import ForeignMessage
from eventstore.store.store import EventStore

T = TypeVar("T")


async def events(
    session: ClientSession,
    aggregate: AggregateName = None,
    aggregate_id: AggregateId = None,
    after: Annotated[
        int, typer.Option(metavar="POSITION", min=0, help="Only events after this position.")
    ] = 0,
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="At most this many events.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Wait for new events until Ctrl-C (status 130).")
    ] = False,
    foreign: Annotated[
        bool,
        typer.Option("--foreign", help="Only messages in the log that the store did not write."),
    ] = False,
    json: Json = False,
) -> None:
    """Print the events of the log, oldest first.

    With --json each line is an object: position, aggregate, aggregate_id, version, type, headers
    and data, and unreadable (the reason) for an event that cannot be read. With --foreign it is
    position, subject, reason, headers and data.
    """
    if foreign and follow:
        raise typer.BadParameter(
            "foreign messages cannot be followed: leave out --follow", param_hint="--follow"
        )
    if foreign:
        messages = _foreign_messages(session, aggregate, aggregate_id, after=after)
        await _print_each(messages, limit, foreign_json if json else foreign_line)
        return
    stored = _stored_events(session, aggregate, aggregate_id, after=after, live=follow)
    await _print_each(stored, limit, event_json if json else event_line)


async def _stored_events(
    session: Session, aggregate: str | None, aggregate_id: str | None, *, after: int, live: bool
) -> AsyncGenerator[LogEvent, None]:
    """The events after a position: all, those of one kind of aggregate, or of one aggregate.

    With `live` it continues with new events until it is closed.
    """
    if aggregate_id is not None:
        check_aggregate_id(aggregate_id)
    async with session.connect() as client, EventStore(client, session.codec) as store:
        if aggregate is not None:
            await session.check_aggregate(client, aggregate)
        if aggregate and aggregate_id and not live:
            found = _events_of(store, aggregate, aggregate_id)
        else:
            found = store.read_log(after=after, live=live)
        async with aclosing(found):
            async for event in found:
                if (
                    aggregate in (None, event.aggregate)
                    and aggregate_id in (None, event.aggregate_id)
                    and event.position > after
                ):
                    yield event


async def _events_of(
    store: EventStore, aggregate: str, aggregate_id: str
) -> AsyncGenerator[LogEvent, None]:
    async with aclosing(store.read_whole(aggregate, aggregate_id, leader=True)) as stored:
        async for found in stored:
            if isinstance(found, list):
                for event in found:
                    yield event
            else:
                yield found


async def _foreign_messages(
    session: Session, aggregate: str | None, aggregate_id: str | None, *, after: int
) -> AsyncGenerator[ForeignMessage, None]:
    """The messages of the log that the store did not write, if their subjects fit."""
    codec = session.codec
    wanted = ".".join([codec.domain, "log", *filter(None, (aggregate, aggregate_id))])
    async with (
        session.connect() as client,
        EventStore(client, codec) as store,
        aclosing(store.read_foreign(after=after)) as found,
    ):
        async for message in found:
            if f"{message.subject}.".startswith(f"{wanted}."):
                yield message


async def _print_each(
    messages: AsyncGenerator[T, None], limit: int | None, line: Callable[[T], str]
) -> None:
    """Print a line for each message as it comes, at most `limit`, as long as somebody reads."""
    count = 0
    async with aclosing(messages):
        async for message in messages:
            count += 1
            if not say(line(message)) or count == limit:
                return
