"""The declaration of a process: what its annotations say, and one clear error for each mistake."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import pytest
from msgspec import Meta

from eventstore import Application
from eventstore.decider.decider import Decider
from eventstore.errors import (
    ConfigurationError,
    DeciderError,
    HandlerFailed,
    InvalidId,
    InvalidSubject,
    RequestTimeout,
    UnknownType,
)
from eventstore.messages.events import RecordedEvent
from eventstore.messages.personal import Personal
from eventstore.messages.types import Command, Event
from eventstore.processes import (
    END,
    After,
    Cancel,
    Process,
    ProcessContext,
    Rejection,
    Send,
)
from eventstore.testing.log import next_event
from tests.integration.trading import (
    Abandon,
    Abandoned,
    Confirm,
    Confirmed,
    Noted,
    Placed,
    Received,
    Reserve,
    Reserved,
    fulfilling,
    orders,
    stocks,
)

CONTEXT = ProcessContext(
    key="o-1",
    event_id="e",
    correlation_id="c",
    aggregate="order",
    aggregate_id="o-1",
    version=1,
    position=1,
    time=datetime(2026, 1, 1, tzinfo=UTC),
)


class Foreign(Command, subject="other.foreign"):
    pass


class Counted(Event, subject="stock.counted"):
    order: Annotated[int, Meta(ge=0)]


class Told(Event, subject="stock.told"):
    order: Annotated[str, Personal()]


class Unheard(Event, subject="order.unheard"):
    pass


def any_of(value: object) -> Any:
    """A value that no type checker complains about."""
    return value


def process(**options: Any) -> Process[int]:
    return Process("saga", **{"initial": int, "key": "order", **options})


def test_its_annotations_say_what_it_reacts_to_and_what_it_sends() -> None:
    declared = fulfilling()
    assert declared.event_types == [Placed, Reserved, Noted, Confirmed, Abandoned]
    assert declared.command_types == [Confirm, Abandon, Reserve]
    assert declared.rejected_types == [Reserve]
    declared.check()


def test_its_functions_remain_functions() -> None:
    declared = process()

    @declared.starts
    def placed(state: int, event: Placed) -> Send[Reserve]:
        return Send(Reserve(order="o-1", quantity=event.quantity), event.article)

    assert placed(0, Placed(article="tea", quantity=2)).to == "tea"


def test_a_command_goes_to_the_aggregate_with_the_key_unless_it_says_another() -> None:
    declared = process()

    @declared.starts
    def placed(_state: int, _event: Placed) -> list[Confirm | Send[Reserve] | After[Abandon]]:
        reserve = Reserve(order="o-1", quantity=1)
        return [Confirm(), Send(reserve, "tea"), After(Abandon(reason="late"), minutes=15)]

    actions = declared.react(0, Placed(article="tea", quantity=1), CONTEXT)
    assert [to for _, to in actions.sent] == ["o-1", "tea", "o-1"]
    timer = actions.sent[2][0]
    assert isinstance(timer, After)
    assert (timer.timer, timer.delay) == ("order-abandon", timedelta(minutes=15))


def test_timers_are_cancelled_by_name_or_by_command() -> None:
    assert Cancel(Abandon).name == After(Abandon(reason=""), seconds=1).timer == "order-abandon"
    assert Cancel("payment").name == After(Abandon(reason=""), days=1, name="payment").timer


@pytest.mark.parametrize(
    ("actions", "left"),
    [
        ([After(Confirm(), minutes=1), Cancel(Confirm)], []),
        ([Cancel(Confirm), After(Confirm(), minutes=1)], [After(Confirm(), minutes=1)]),
        (
            [After(Confirm(), minutes=1), After(Confirm(), minutes=2), Confirm()],
            [After(Confirm(), minutes=2), Send(Confirm())],
        ),
    ],
)
def test_what_counts_of_a_timer_is_the_last_action(actions: list[Any], left: list[Any]) -> None:
    declared = process()

    @declared.starts
    def placed(_state: int, _event: Placed) -> Any:
        return actions

    found = declared.react(0, Placed(article="tea", quantity=1), CONTEXT)
    assert [each for each, _ in found.sent] == left


@pytest.mark.parametrize(
    ("make", "error", "problem"),
    [
        (lambda: After(Confirm()), DeciderError, r"After\(Confirm\) needs a time"),
        (lambda: After(Confirm(), seconds=-1), DeciderError, "needs a time"),
        (lambda: After(Confirm(), seconds=1, name="Not One"), InvalidSubject, "timer 'Not One'"),
        (lambda: Send(Confirm(), "no id"), InvalidId, "no id"),
        (lambda: After(Confirm(), days=36_526), DeciderError, "more than 100 years ahead"),
        (lambda: After(Confirm(), days=float("inf")), DeciderError, "needs numbers as its time"),
        (lambda: After(Confirm(), minutes=any_of("15")), DeciderError, "needs numbers"),
        (lambda: After(any_of(Confirm), minutes=15), DeciderError, "After takes a command"),
        (
            lambda: Send(any_of(Confirm)),
            DeciderError,
            "Send takes a command, .* not <class .*Confirm",
        ),
        (lambda: Send(any_of(Confirmed())), DeciderError, "Send takes a command, .* not Confirmed"),
        (
            lambda: Cancel(any_of(Confirm())),
            DeciderError,
            "name of a timer or the type of its command",
        ),
        (
            lambda: Cancel(any_of(Confirmed)),
            DeciderError,
            "name of a timer or the type of its command",
        ),
    ],
)
def test_an_action_that_cannot_be_is_refused(
    make: Callable[[], object], error: type[Exception], problem: str
) -> None:
    with pytest.raises(error, match=problem):
        make()


def no_start(declared: Process[int]) -> None:
    @declared.reacts
    def placed(_state: int, _event: Placed) -> None: ...


def second(declared: Process[int]) -> None:
    @declared.starts
    @declared.ends
    def placed(_state: int, _event: Placed) -> None: ...


def no_event(declared: Process[int]) -> None:
    @declared.starts
    def placed(_state: int, _event: str) -> None: ...


def one_of_two(declared: Process[int]) -> None:
    @declared.starts
    def placed(_state: int, _event: Placed | str) -> None: ...


def asynchronous(declared: Process[int]) -> None:
    @declared.starts
    async def placed(_state: int, _event: Placed) -> None: ...


def wrong_third(declared: Process[int]) -> None:
    @declared.starts
    def placed(_state: int, _event: Placed, _context: str) -> None: ...


def starting_rejection(declared: Process[int]) -> None:
    @declared.starts
    def refused(_state: int, _event: Rejection[Reserve]) -> None: ...


def no_key(declared: Process[int]) -> None:
    @declared.starts
    def received(_state: int, _event: Received) -> None: ...


def returning_event(declared: Process[int]) -> None:
    @declared.starts
    def placed(_state: int, _event: Placed) -> list[Confirmed]:
        return []


def numbered(declared: Process[int]) -> None:
    @declared.starts
    def counted(_state: int, _event: Counted) -> None: ...


class Sorted(Event, subject="stock.sorted"):
    order: Annotated[str, Meta(max_length=20)] | None


class Shipped(Event, subject="stock.shipped"):
    order: UUID


def test_a_key_is_a_text_or_a_uuid() -> None:
    declared = process()

    @declared.starts
    def moved(_state: int, _event: Sorted | Shipped) -> None: ...

    declared.check()


def named(declared: Process[int]) -> None:
    @declared.starts
    def told(_state: int, _event: Told) -> None: ...


@pytest.mark.parametrize(
    ("declare", "problem"),
    [
        (no_start, "process saga: no event starts it"),
        (second, "Placed already has a function"),
        (no_event, "placed: its second parameter must be annotated with the Event class"),
        (one_of_two, "placed: its second parameter must be annotated"),
        (asynchronous, "placed must not be async"),
        (wrong_third, "its third parameter is the ProcessContext"),
        (starting_rejection, "refused cannot start it at a rejection"),
        (no_key, "Received has no field order, and is no event of an aggregate order"),
        (returning_event, "placed returns the event Confirmed; a process returns commands"),
        (numbered, "Counted.order can be no key, because it is neither a str nor a UUID"),
        (named, "Told.order can be no key, because it is personal data"),
    ],
)
def test_a_mistake_is_named_when_it_is_declared(
    declare: Callable[[Process[int]], None], problem: str
) -> None:
    declared = process()

    def declaring() -> None:
        declare(declared)
        declared.check()

    with pytest.raises(DeciderError, match=problem):
        declaring()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"initial": 0}, "initial is a int"),
        ({"key": 7}, "key is a int"),
        ({"max_reactions": 0}, "max_reactions is 0"),
        ({"start": "old"}, "start is 'old'"),
    ],
)
def test_illegal_options_are_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(DeciderError, match=problem):
        process(**options)


def sends_foreign(declared: Process[int]) -> None:
    @declared.starts
    def placed(_state: int, _event: Placed) -> Foreign:
        return Foreign()


def hears_nothing(declared: Process[int]) -> None:
    @declared.starts
    def unheard(_state: int, _event: Unheard) -> None: ...


@pytest.mark.parametrize(
    ("declare", "problem"),
    [
        (sends_foreign, "process saga sends Foreign, which no decider of shop decides"),
        (hears_nothing, "process saga: no decider of shop evolves by Unheard"),
        (no_start, "process saga: no event starts it"),
        (no_key, "Received has no field order"),
    ],
)
def test_an_application_refuses_a_process_that_does_not_fit(
    declare: Callable[[Process[int]], None], problem: str
) -> None:
    declared = process()
    declare(declared)
    with pytest.raises(ConfigurationError, match=problem):
        Application("shop", [orders(), stocks()], processes=[declared])


def test_an_application_refuses_two_of_one_name() -> None:
    with pytest.raises(ConfigurationError, match="fulfilment is given twice"):
        Application("shop", [orders(), stocks()], processes=[fulfilling(), fulfilling()])
    clash: Decider[int] = Decider("fulfilment", initial=int)
    with pytest.raises(ConfigurationError, match="process fulfilment has the name of a decider"):
        Application("shop", [orders(), stocks(), clash], processes=[fulfilling()])


def test_the_records_of_a_process_that_is_over_are_read_by_its_decider() -> None:
    over = fulfilling()
    app = Application("shop", [orders(), stocks(), over.decider])
    app.domain.codec.check_event_type(over.records.reacted)


@pytest.mark.parametrize("returned", ["text", [7], Placed(article="", quantity=1)])
def test_a_function_that_returns_no_action_is_named(returned: Any) -> None:
    declared = process()

    @declared.starts
    def placed(_state: int, _event: Placed) -> Any:
        return returned

    with pytest.raises(DeciderError, match=r"placed returned .*must return commands"):
        declared.react(0, Placed(article="tea", quantity=1), CONTEXT)


def test_an_error_of_the_library_in_a_function_does_not_look_like_its_own() -> None:
    declared = process()

    @declared.starts
    def placed(_state: int, _event: Placed) -> Any:
        raise UnknownType("of the function")

    with pytest.raises(HandlerFailed, match="placed failed on Placed: UnknownType"):
        declared.react(0, Placed(article="tea", quantity=1), CONTEXT)


def test_a_generator_that_fails_is_a_function_that_fails() -> None:
    declared = process()

    @declared.starts
    def placed(_state: int, event: Placed) -> Iterator[Send[Reserve] | Confirm]:
        yield Send(Reserve(order="o-1", quantity=event.quantity), "tea")
        if event.quantity > 1:
            raise RequestTimeout("which a retry could help")
        yield Confirm()

    sent = declared.react(0, Placed(article="tea", quantity=1), CONTEXT).sent
    assert [to for _, to in sent] == ["tea", "o-1"]
    with pytest.raises(HandlerFailed, match="placed failed on Placed: RequestTimeout"):
        declared.react(0, Placed(article="tea", quantity=2), CONTEXT)


def test_a_function_that_forgets_to_return_the_state_is_named() -> None:
    declared = process()

    @declared.evolves
    def noted(state: int, _event: Noted) -> int:
        return None  # type: ignore[return-value]

    with pytest.raises(DeciderError, match="noted returned NoneType for Noted; it must return"):
        declared.evolve(0, Noted(text=""), CONTEXT)


def test_a_key_is_a_function_for_what_a_field_cannot_say() -> None:
    declared = process(key=by_article)
    scenario = events(declared)
    assert declared.key_of(Placed(article="tea", quantity=1), scenario) == "tea"
    assert declared.key_of(Placed(article="none", quantity=1), scenario) is None
    with pytest.raises(HandlerFailed, match="key failed on Placed: RequestTimeout"):
        declared.key_of(Placed(article="late", quantity=1), scenario)
    with pytest.raises(InvalidId, match=r"saga: its key for Placed cannot be one: .*'no id'"):
        declared.key_of(Placed(article="no id", quantity=1), scenario)
    with pytest.raises(DeciderError, match="must not be async"):
        process(key=late_key)


def by_article(event: Placed, _recorded: RecordedEvent) -> str | None:
    if event.article == "late":
        raise RequestTimeout("a key that asks somebody")
    return None if event.article == "none" else event.article


async def late_key(_event: Placed, _recorded: RecordedEvent) -> str:
    return ""


def events(declared: Process[int]) -> RecordedEvent:
    return next_event((), "o-1", Placed(article=declared.name, quantity=1))


def test_a_process_ends_by_its_event_or_by_what_it_returns() -> None:
    declared = fulfilling()
    state = declared.initial()
    assert declared.react(state, Noted(text="end"), CONTEXT).ends
    assert declared.react(state, Confirmed(), CONTEXT).ends
    assert not declared.react(state, Noted(text="on"), CONTEXT).ends
    assert END.value == "end"
