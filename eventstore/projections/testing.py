"""Given, then: test a projection with events and rows, without a server or a file.

    (
        scenario(flakes)
        .given("f1", FlakeCreated(path="./mine", description=""))
        .given("f1", FlakeInputAdded(name="nixpkgs", url="github:NixOS/nixpkgs"))
        .then(flake_input, {"flake_id": "f1", "name": "nixpkgs"})
    )

Queries that are answered from its rows, with those of further projections if they need them:

    scenario(flakes).given("f1", ...).then_answers(queries, GetFlake(id="f1"), FlakeView(...))

The statements run in an SQLite database in memory that has only the projection's own tables, so
that a projection that reads the tables of another fails.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection, StaticPool, Table, create_engine, event, select

from eventstore.errors import InvalidMessage, ProjectionError, ProjectionFailed
from eventstore.messages.decoders import decoder_of
from eventstore.messages.events import LogEvent, UnreadEvent
from eventstore.messages.opaque import OpaqueEvent
from eventstore.messages.queries import Query
from eventstore.messages.subjects import AggregateId, check_aggregate_id
from eventstore.messages.text import counted
from eventstore.messages.types import Event
from eventstore.projections.database import tables
from eventstore.projections.database.checkpoint import ExpectedCheckpoint, claim
from eventstore.projections.projection import Projection
from eventstore.projections.queries.queries import QueryHandlers
from eventstore.projections.queries.rows import Rows
from eventstore.projections.table_names import library_metadata
from eventstore.projections.worker.apply import apply
from eventstore.testing.log import START, next_opaque, next_record, with_events

__all__ = ["START", "Row", "Scenario", "scenario"]

A = TypeVar("A")
Row = Mapping[str, Any]
"""The columns of a row to compare, and their values."""


def scenario(projection: Projection, *more: Projection) -> Scenario:
    """A scenario for a projection, or for several that queries read together, with an empty log."""
    return Scenario((projection, *more), ())


class Scenario:
    """Projections and the events given so far; every step returns a new scenario."""

    def __init__(self, projections: tuple[Projection, ...], log: tuple[LogEvent, ...]) -> None:
        self._projections = projections
        self._log = log

    def given(
        self,
        aggregate_id: AggregateId,
        *events: Event,
        actor: str | None = None,
        time: datetime | None = None,
    ) -> Scenario:
        """Append events of one aggregate to the log.

        Raises `InvalidId`, and `InvalidPayload` for one that could not be stored.
        """
        log = with_events(self._log, aggregate_id, events, actor=actor, time=time)
        return Scenario(self._projections, log)

    def given_opaque(
        self,
        aggregate: str,
        aggregate_id: AggregateId,
        *events: OpaqueEvent,
        actor: str | None = None,
        time: datetime | None = None,
    ) -> Scenario:
        """Append opaque events of one aggregate to the log.

        Raises `InvalidId`, and `InvalidMessage` for one that could not be stored.
        """
        own_id = check_aggregate_id(aggregate_id)
        log = self._log
        for data in events:
            log += (next_opaque(log, aggregate, own_id, data, actor=actor, time=time),)
        return Scenario(self._projections, log)

    def given_unread(
        self,
        aggregate: str,
        aggregate_id: AggregateId,
        type_name: str,
        error: InvalidMessage | None = None,
        *,
        actor: str | None = None,
        time: datetime | None = None,
    ) -> Scenario:
        """Append an event that an upcaster drops, or that cannot be read because of the `error`.

        Its possible types are unknown, so that every projection must take the latter.
        """
        own_id = check_aggregate_id(aggregate_id)
        about = next_record(self._log, aggregate, own_id, type_name, actor=actor, time=time)
        unread = UnreadEvent(**about, payload=b"", error=error)
        return Scenario(self._projections, (*self._log, unread))

    def rows(self, table: Table) -> list[dict[str, Any]]:
        """All rows of a table after the events, in the order of its primary key.

        Raises `ProjectionFailed` if the projection cannot take an event.
        """
        with _applied(self._projections, self._log) as connection:
            found = connection.execute(select(table).order_by(*table.primary_key.columns))
            return [dict(row) for row in found.mappings()]

    def then(self, table: Table, *expected: Row) -> Scenario:
        """Assert that the table has exactly these rows; other columns are not compared.

        Raises `AssertionError`, and `ProjectionFailed` as `rows` does.
        """
        for row in expected:
            if unknown := [name for name in row if name not in table.c]:
                known = ", ".join(table.c.keys())
                raise AssertionError(f"{table} has no column {', '.join(unknown)}; it has {known}")
        found = self.rows(table)
        if not _match(found, list(expected)):
            raise AssertionError(
                f"{table}\n  expected{_listed(expected)}\n  but got {_listed(found)}"
            )
        return self

    def then_fails(self) -> ProjectionFailed:
        """Assert that the projection cannot take one of the events, and return the error."""
        try:
            with _applied(self._projections, self._log):
                pass
        except ProjectionFailed as failure:
            return failure
        names = ", ".join(each.name for each in self._projections)
        raise AssertionError(f"projection {names} takes all of {counted(len(self._log), 'event')}")

    def answer(self, handlers: QueryHandlers, query: Query[A]) -> A:
        """The answer to a query after the events, encoded and decoded.

        Raises `QueryNotFound`, what the handler raises, and `ProjectionFailed` as `rows` does; and
        `ProjectionError` if no handler is for the query.
        """
        handler = handlers.handlers.get(type(query))
        if handler is None:
            raise ProjectionError(f"no handler of these answers {type(query).__name__}")
        with _applied(self._projections, self._log) as connection:
            answered = msgspec.json.encode(handler(query, Rows(connection)))
        return decoder_of(type(query).__answer__).decode(answered)  # type: ignore[no-any-return]

    def then_answers(self, handlers: QueryHandlers, query: Query[A], expected: A) -> Scenario:
        """Assert the answer to a query; raises `AssertionError`, and what `answer` raises."""
        found = self.answer(handlers, query)
        if found != expected:
            raise AssertionError(f"{query}\n  expected {expected}\n  but got  {found}")
        return self


@contextmanager
def _applied(
    projections: tuple[Projection, ...], log: tuple[LogEvent, ...]
) -> Iterator[Connection]:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    event.listen(engine, "connect", lambda raw, _: raw.execute("PRAGMA foreign_keys=ON"))
    try:
        with engine.connect() as connection:
            library_metadata.create_all(connection, [tables.checkpoints, tables.parked_event])
            for projection in projections:
                library_metadata.create_all(connection, projection.tables)
                claim(connection, projection, START)
            if log:
                expected = [ExpectedCheckpoint(each, 0) for each in projections]
                apply(connection, expected, log, len(log), START)
            yield connection
    finally:
        engine.dispose()


def _match(found: list[dict[str, Any]], expected: list[Row]) -> bool:
    """Whether each found row matches an expected one, and each expected row a found one."""
    if not found or not expected:
        return not found and not expected
    row, *others = found
    return any(
        row.items() >= each.items() and _match(others, expected[:index] + expected[index + 1 :])
        for index, each in enumerate(expected)
    )


def _listed(rows: Iterable[Row]) -> str:
    return "".join(f"\n    {row}" for row in rows) or " no rows"
