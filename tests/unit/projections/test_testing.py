"""The helper for users' own tests of projections."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime

import pytest
from msgspec import Struct
from sqlalchemy import Column, Integer, MetaData, String, Table, insert, select, update

from eventstore import Event, OpaqueEvent, Query
from eventstore.errors import (
    InvalidHeader,
    InvalidId,
    InvalidPayload,
    ProjectionError,
    QueryNotFound,
    UnknownType,
)
from eventstore.messages.events import RecordedEvent
from eventstore.nix import FlakeCreated, FlakeInputAdded, FlakeInputRemoved, FlakeUpdated
from eventstore.projections.projection import Projection, Statement
from eventstore.projections.queries import QueryHandlers, Rows
from eventstore.projections.testing import START, scenario
from projections.flakes import flakes
from projections.models import flake, flake_input, module
from tests.unit.projections.counters import Counted, Noted

CREATED = FlakeCreated(path="./mine", description="mine")
ADDED = FlakeInputAdded(name="nixpkgs", url="github:NixOS/nixpkgs")

own = Table(
    "own_total",
    MetaData(),
    Column("counter", String(50), primary_key=True),
    Column("total", Integer, nullable=False),
)
totals = Projection("own_totals", tables=[own])


def test_uuids_are_ids_and_others_are_checked() -> None:
    counter = uuid.UUID("3f687bd3-5849-4f1f-a4d3-89322f67d381")
    made = scenario(totals).given(counter, Counted(by=2)).given(str(counter), Counted(by=3))
    made.then(own, {"counter": str(counter), "total": 5})
    with pytest.raises(InvalidId, match="aggregate id 'a b' is not allowed"):
        scenario(totals).given("a b", Counted(by=2))


@totals.handles
def counted(event: Counted, recorded: RecordedEvent) -> Statement:
    if recorded.version == 1:
        return insert(own).values(counter=recorded.aggregate_id, total=event.by)
    of_counter = own.c.counter == recorded.aggregate_id
    return update(own).where(of_counter).values(total=own.c.total + event.by)


@totals.handles
def noted(event: Noted) -> Statement:
    foreign = select(module.c.name).scalar_subquery()
    return update(own).values(counter=foreign)


class Measured(Event, subject="counter.measured"):
    values: object


def test_rows_after_events() -> None:
    (
        scenario(flakes)
        .then(flake)
        .given("f1", CREATED, ADDED)
        .then(flake, {"id": "f1", "path": "./mine", "version": 2, "position": 2})
        .then(flake_input, {"flake_id": "f1", "name": "nixpkgs", "url": "github:NixOS/nixpkgs"})
        .given("f1", FlakeInputRemoved(name="nixpkgs"))
        .then(flake_input)
    )


def test_versions_count_by_aggregate_and_positions_over_all() -> None:
    given = scenario(totals).given("a", Counted(by=1)).given("b", Counted(by=5), Counted(by=6))

    assert given.given("a", Counted(by=2)).rows(own) == [
        {"counter": "a", "total": 3},
        {"counter": "b", "total": 11},
    ]
    assert len(given.rows(own)) == 2, "a scenario is not changed by those made of it"


def test_the_order_of_the_rows_does_not_matter() -> None:
    given = scenario(totals).given("a", Counted(by=1)).given("b", Counted(by=1))

    given.then(own, {"total": 1}, {"counter": "a"})
    given.then(own, {"counter": "b"}, {"counter": "a"})


def test_times_and_actors_can_be_given() -> None:
    noon = datetime(2026, 5, 4, 12, tzinfo=UTC)
    rows = scenario(flakes).given("f1", CREATED).given("f1", FlakeUpdated(inputs=[]), time=noon)

    rows.then(flake, {"created_at": START, "updated_at": noon})


@pytest.mark.parametrize(
    "expected",
    [(), ({"total": 2},), ({"total": 1}, {"total": 1}), ({"counter": "a", "total": 0},)],
    ids=["none", "other value", "more", "other value beside the same"],
)
def test_other_rows_fail(expected: tuple[dict[str, object], ...]) -> None:
    given = scenario(totals).given("a", Counted(by=1))

    with pytest.raises(
        AssertionError, match=r"own_total\n  expected[\s\S]*but got[\s\S]*'total': 1"
    ):
        given.then(own, *expected)


def test_a_column_that_there_is_not_is_named() -> None:
    with pytest.raises(AssertionError, match="no column colour; it has counter, total"):
        scenario(totals).then(own, {"colour": "red"})


def test_an_event_that_cannot_be_taken_is_named() -> None:
    given = scenario(flakes).given("f1", CREATED, ADDED, ADDED)

    failure = given.then_fails()

    assert "FlakeInputAdded" in str(failure)
    assert "position 3" in str(failure)
    with pytest.raises(type(failure)):
        given.rows(flake)
    with pytest.raises(AssertionError, match="takes all of 2 events"):
        scenario(flakes).given("f1", CREATED, ADDED).then_fails()


def test_an_event_that_cannot_be_read_is_named_and_one_that_is_dropped_passes() -> None:
    given = scenario(flakes).given("f1", CREATED).given_unread("flake", "f1", "FlakeLookedAt")
    given.given("f1", ADDED).then(flake, {"id": "f1", "version": 3, "position": 3})

    failure = given.given_unread(
        "flake", "f1", "FlakePainted", UnknownType("none such")
    ).then_fails()

    assert re.search(r"before FlakePainted \S+ at position 3: UnknownType: none such", str(failure))


def test_opaque_events_are_for_handlers_of_their_own() -> None:
    sizes = Projection("sizes", tables=[own])

    @sizes.handles
    def taken(event: OpaqueEvent, recorded: RecordedEvent) -> Statement:
        name = f"{recorded.aggregate} {recorded.type} {event.headers['Camera']}"
        return insert(own).values(counter=name, total=len(event.payload))

    picture = OpaqueEvent(type="a.b:C", payload=b"123", headers={"Camera": "5"})
    given = scenario(sizes).given("a", Counted(by=1)).given_opaque("album", "a", picture)
    given.then(own, {"counter": "album a.b:C 5", "total": 3})
    passed = scenario(totals).given("a", Counted(by=1)).given_opaque("counter", "a", picture)
    passed.then(own, {"counter": "a", "total": 1})
    with pytest.raises(InvalidHeader, match="X-Event-Type"):
        scenario(sizes).given_opaque("album", "a", OpaqueEvent(type="a b", payload=b""))


def test_an_event_that_could_not_be_stored_is_refused() -> None:
    with pytest.raises(InvalidPayload, match="Measured"):
        scenario(totals).given("a", Measured(values=(1, 2)))


def test_the_tables_of_others_are_not_there() -> None:
    failure = scenario(totals).given("a", Noted(text="")).then_fails()

    assert "no such table: module" in str(failure)


class Total(Struct):
    counter: str
    total: int


class GetTotal(Query[Total], subject="counter.total"):
    counter: str


class GetOther(Query[Total], subject="counter.other"):
    """Nobody answers it."""


queries = QueryHandlers(totals)


@queries.answers
def get_total(query: GetTotal, rows: Rows) -> Total:
    wanted = select(own).where(own.c.counter == query.counter)
    return rows.one(query, wanted, f"counter {query.counter}")


def test_queries_are_answered_from_the_rows() -> None:
    given = scenario(totals).given("a", Counted(by=1))
    given.then_answers(queries, GetTotal(counter="a"), Total("a", 1)).given("a", Counted(by=2))
    with pytest.raises(AssertionError, match=r"expected .*total=2.*\n  but got .*total=1"):
        given.then_answers(queries, GetTotal(counter="a"), Total("a", 2))
    with pytest.raises(QueryNotFound, match="no counter b"):
        given.answer(queries, GetTotal(counter="b"))
    with pytest.raises(ProjectionError, match="no handler of these answers GetOther"):
        given.answer(queries, GetOther())


def test_several_projections_have_their_rows_side_by_side() -> None:
    given = scenario(flakes, totals).given("f1", CREATED).given("a", Counted(by=4))
    given.then(flake, {"id": "f1"}).then(own, {"counter": "a", "total": 4})
    given.then_answers(queries, GetTotal(counter="a"), Total("a", 4))
