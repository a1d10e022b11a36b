from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from functools import partial, wraps
from typing import Any

import msgspec
import pytest
from sqlalchemy import (
    Column,
    Identity,
    Insert,
    Integer,
    MetaData,
    Table,
    delete,
    insert,
    select,
    update,
)

from eventstore.errors import InvalidMessage, InvalidPayload, ProjectionError
from eventstore.messages.codec import Codec
from eventstore.messages.events import LogEvent, RecordedEvent, StoredEvent, UnreadEvent
from eventstore.messages.types import Command, Event
from eventstore.projections.projection import BoundStatement, Changes, Projection, Statement
from tests.unit.projections.memory import MemoryLog


class Made(Event, subject="thing.made"):
    size: int


class Grown(Event, subject="thing.grown"):
    by: int


class Gone(Event, subject="thing.gone"):
    pass


class Make(Command, subject="thing.make"):
    size: int


class Abstract(Event):
    pass


metadata = MetaData()
thing = Table("thing", metadata, Column("id", Integer), Column("size", Integer))
other = Table("other", metadata, Column("id", Integer))


def recorded(event: Event) -> RecordedEvent:
    log = MemoryLog(Codec("test", commands=[], events=[Made, Grown, Gone]))
    log.add("t1", event)
    return log.events[0]


@pytest.fixture
def things() -> Projection:
    return Projection("things", tables=[thing])


def test_a_handler_is_found_by_its_annotation(things: Projection) -> None:
    @things.handles
    def made(event: Made) -> Statement:
        return insert(thing).values(size=event.size)

    (statement,) = things.statements(recorded(Made(size=3)))

    assert isinstance(statement, type(insert(thing)))
    assert statement.compile().params == {"size": 3}
    assert things.wants(Made)
    assert not things.wants(Grown)
    assert things.event_types == [Made]
    assert made(Made(size=1)) is not None


def test_a_handler_may_ask_for_the_record(things: Projection) -> None:
    @things.handles
    def made(event: Made, recorded: RecordedEvent) -> Statement:
        return insert(thing).values(id=recorded.position, size=recorded.version)

    (statement,) = things.statements(recorded(Made(size=3)))

    assert isinstance(statement, type(insert(thing)))
    assert statement.compile().params == {"id": 1, "size": 1}


def test_a_handler_may_be_for_several_events(things: Projection) -> None:
    @things.handles
    def changed(event: Made | Grown) -> Statement:
        return update(thing)

    both: list[type[Event]] = [Made, Grown]
    assert things.event_types == both
    assert len(things.statements(recorded(Grown(by=1)))) == 1


def unread(error: InvalidMessage | None = None, **options: Any) -> UnreadEvent:
    about = recorded(Gone())
    return UnreadEvent(
        envelope=about.envelope,
        aggregate=about.aggregate,
        aggregate_id=about.aggregate_id,
        version=about.version,
        position=about.position,
        headers=about.headers,
        payload=about.payload,
        error=error,
        **options,
    )


BROKEN = InvalidPayload("it is broken")


def test_an_index_is_given_each_stored_event_once(things: Projection) -> None:
    given: list[StoredEvent] = []

    @things.handles
    def indexed(stored: StoredEvent) -> Statement:
        given.append(stored)
        return insert(thing).values(id=stored.position)

    whole = recorded(Made(size=3))
    every: list[LogEvent] = [
        whole,
        msgspec.structs.replace(whole, part=1),
        unread(),
        unread(BROKEN),
    ]

    assert [len(things.statements(each)) for each in every] == [1, 0, 1, 1]
    assert given == [every[0], every[2], every[3]]
    assert things.takes_stored
    assert things.wants(Gone)
    assert things.event_types == []


def test_what_is_read_as_nothing_changes_nothing(things: Projection) -> None:
    @things.handles
    def any_event(event: Event) -> Statement:
        return insert(thing)

    assert things.statements(unread(types=frozenset({Made}))) == ()


@pytest.mark.parametrize(
    ("types", "is_taken"),
    [(None, True), ({Made}, True), ({Made, Gone}, True), ({Gone}, False), ((), False)],
    ids=["nobody knows", "its own", "its own and another's", "another's", "none"],
)
def test_an_unreadable_event_fails_if_it_may_have_been_for_the_projection(
    things: Projection, types: Collection[type[Event]] | None, is_taken: bool
) -> None:
    @things.handles
    def made(event: Made | Grown) -> Statement:
        return insert(thing)

    event = unread(BROKEN, types=None if types is None else frozenset(types))

    assert things.takes(event) is is_taken
    if is_taken:
        with pytest.raises(InvalidPayload, match="it is broken"):
            things.statements(event)
    else:
        assert things.statements(event) == ()


def of_stored(stored: StoredEvent) -> None: ...


def of_any(event: Event) -> None: ...


@pytest.mark.parametrize("handlers", [(of_stored, of_any), (of_any, of_stored), (of_stored,) * 2])
def test_an_index_has_one_handler(things: Projection, handlers: tuple[Any, Any]) -> None:
    first, second = handlers
    things.handles(first)
    with pytest.raises(ProjectionError, match="is for every event, and the only one"):
        things.handles(second)


def test_a_stored_event_comes_alone_and_is_not_reacted_to(things: Projection) -> None:
    def with_record(stored: StoredEvent, recorded: RecordedEvent) -> None: ...

    async def reaction(stored: StoredEvent) -> None: ...

    with pytest.raises(
        ProjectionError,
        match="handler with_record: a handler of StoredEvent has no other parameter",
    ):
        things.handles(with_record)  # type: ignore[arg-type]
    with pytest.raises(ProjectionError, match="a reaction is to events, not to StoredEvent"):
        things.reacts(reaction)


def test_an_event_that_is_not_wanted_changes_nothing(things: Projection) -> None:
    assert things.statements(recorded(Gone())) == ()


_constant = insert(thing)


@pytest.mark.parametrize(
    ("returned", "count"),
    [
        (None, 0),
        ([], 0),
        (delete(thing), 1),
        (BoundStatement(_constant, {"id": 1}), 1),
        ([delete(thing), BoundStatement(_constant, {"id": 1})], 2),
        (iter([delete(thing)]), 1),
    ],
)
def test_what_a_handler_may_return(things: Projection, returned: Changes, count: int) -> None:
    @things.handles
    def gone(event: Gone) -> Changes:
        return returned

    assert len(things.statements(recorded(Gone()))) == count


@pytest.mark.parametrize(
    ("returned", "complaint"),
    [
        ([select(thing)], "returned Select, not insert"),
        (["DELETE FROM thing"], "returned str, not insert"),
        (delete(other), "writes other, which is not among its tables"),
        (BoundStatement(delete(other), {}), "writes other, which is not among its tables"),
    ],
)
def test_what_a_handler_may_not_return(things: Projection, returned: Any, complaint: str) -> None:
    @things.handles
    def gone(event: Gone) -> Changes:
        return returned  # type: ignore[no-any-return]

    with pytest.raises(ProjectionError, match=complaint):
        things.statements(recorded(Gone()))


def unannotated(event) -> None: ...  # type: ignore[no-untyped-def]


def of_a_command(event: Make) -> None: ...


def of_no_subject(event: Abstract) -> None: ...


def of_something_else(event: Made | int) -> None: ...


def of_an_unknown(event: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821


def of_nothing() -> None: ...


def of_three(event: Made, recorded: RecordedEvent, more: int) -> None: ...


def of_another_second(event: Made, recorded: int) -> None: ...


async def asynchronous(event: Made) -> None: ...


async def asynchronous_parts(event: Made) -> AsyncIterator[Statement]:
    yield insert(thing)


@wraps(asynchronous)
def decorated(*arguments: Any) -> Any: ...


class Asynchronous:
    async def __call__(self, event: Made) -> None: ...


def of_a_keyword(event: Made, recorded: RecordedEvent, *, by: int) -> Statement:
    return insert(thing).values(size=by * event.size)


@pytest.mark.parametrize(
    ("function", "complaint"),
    [
        (unannotated, "unannotated: its first parameter must be annotated"),
        (of_a_command, "must be annotated with the event"),
        (of_no_subject, "must be annotated with the event"),
        (of_something_else, "must be annotated with the event"),
        (of_an_unknown, "annotation not understood, name 'Nowhere'"),
        (of_nothing, "takes an event and"),
        (of_three, "takes an event and"),
        (of_another_second, "the second parameter is the RecordedEvent"),
        (asynchronous, "is async"),
        (asynchronous_parts, "is async"),
        (decorated, "is async"),
        (Asynchronous(), "is async"),
        (of_a_keyword, "takes an event and, optionally, its record: missing .* argument: 'by'"),
    ],
)
def test_a_wrong_handler_is_refused_when_it_is_defined(
    things: Projection, function: Callable[..., Any], complaint: str
) -> None:
    with pytest.raises(ProjectionError, match=complaint) as refused:
        things.handles(function)

    assert "projection things" in str(refused.value)


class Unusual(BaseException):
    pass


def test_what_would_end_the_program_is_an_error_of_the_handler(things: Projection) -> None:
    @things.handles
    def made(event: Made) -> None:
        raise Unusual("unusual")

    with pytest.raises(ProjectionError, match="the handler of Made raised Unusual: unusual"):
        things.statements(recorded(Made(size=3)))


def test_a_handler_may_have_been_given_its_other_arguments(things: Projection) -> None:
    things.handles(partial(of_a_keyword, by=2))

    (statement,) = things.statements(recorded(Made(size=3)))
    assert isinstance(statement, Insert)
    assert statement.compile().params == {"size": 6}


def test_an_event_has_one_handler(things: Projection) -> None:
    @things.handles
    def made(event: Made) -> None: ...

    with pytest.raises(ProjectionError, match="Made already has a handler; again is a second"):

        @things.handles
        def again(event: Grown | Made) -> None: ...


def test_a_projection_that_cannot_work_is_refused() -> None:
    with pytest.raises(ProjectionError, match="projection 'No Name' is not allowed"):
        Projection("No Name", tables=[thing])
    with pytest.raises(ProjectionError, match="version must be 1 or more"):
        Projection("things", version=0, tables=[thing])
    with pytest.raises(ProjectionError, match="name the tables"):
        Projection("things", tables=[])
    always = Table("always", MetaData(), Column("id", Integer, Identity(always=True)))
    with pytest.raises(ProjectionError, match=r"column always\.id is Identity\(always=True\)"):
        Projection("things", tables=[thing, always])


def test_a_table_is_named_once() -> None:
    rows = Table("named_once", MetaData(), Column("id", Integer))
    with pytest.raises(ProjectionError, match="names table named_once twice"):
        Projection("twice", tables=[rows, rows])
