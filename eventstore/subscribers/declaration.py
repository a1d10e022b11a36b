"""The declaration of a subscriber: its name, its options and its handlers, without a connection.

    reservation = Subscriber("reservation")

    @reservation.handles
    async def placed(event: OrderPlaced, recorded: RecordedEvent, *, commands: Commands) -> None:
        await commands.send(ReserveStock(order=recorded.aggregate_id), event.article)

It is made at module level, and bound later to a client, and to the resources that its handlers name
as keyword-only parameters (`EventSubscriber`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, Self, TypedDict, TypeVar

from eventstore.errors import DeciderError
from eventstore.messages.handlers import EventHandler, EventHandlers
from eventstore.messages.subjects import check_name
from eventstore.messages.types import Event
from eventstore.subscribers.positions import Start

Acknowledge = Literal["after", "before"]
"""When an event is acknowledged: after its handler has returned (at least once), or before it is
called (at most once)."""

_MIN_SECONDS = 0.001
_MAX_SECONDS = 86_400.0

H = TypeVar("H", bound=Callable[..., Any])


class SubscriberOptions(TypedDict, total=False):
    """The options of a subscriber, as in `Subscriber`."""

    start: Start
    continues: str | None
    acknowledge: Acknowledge
    ordered: bool
    max_concurrency: int
    max_attempts: int
    backoff: float
    ack_wait: float


class Subscriber:
    """A subscriber as it is declared; `EventSubscriber` runs it, and explains what it guarantees.

    `name` is its durable position in the event stream. `start` is where a new name begins: with
    "all" events that the stream still has, with "new" ones, or after a position of the log.
    `continues` is an earlier name whose position a new name takes over. `acknowledge` is "after" or
    "before" handling; `ordered` is in the order of the log, otherwise `max_concurrency` events are
    handled at a time. A handler is called `max_attempts` times, the first pause is `backoff`
    seconds; what a process was handling when it died is redelivered after `ack_wait` seconds.

    Raises `InvalidSubject` for a name that no subject can contain, `DeciderError` for one that
    continues itself, and for options out of range.
    """

    def __init__(
        self,
        name: str,
        *,
        start: Start = "all",
        continues: str | None = None,
        acknowledge: Acknowledge = "after",
        ordered: bool = True,
        max_concurrency: int = 64,
        max_attempts: int = 5,
        backoff: float = 0.2,
        ack_wait: float = 30.0,
    ) -> None:
        self.name = check_name("subscriber", name)
        if continues is not None and check_name("subscriber", continues) == name:
            raise DeciderError(f"subscriber {name} cannot continue itself")
        _check(name, start, acknowledge)
        _check_counts(name, max_concurrency=max_concurrency, max_attempts=max_attempts)
        _check_seconds(name, backoff=backoff, ack_wait=ack_wait)
        self.start = start
        self.continues = continues
        self.acknowledges_first = acknowledge == "before"
        self.ordered = ordered
        self.max_concurrency = 1 if ordered else max_concurrency
        self.max_attempts = 1 if self.acknowledges_first else max_attempts
        self.backoff = backoff
        self.ack_wait = ack_wait
        self.handlers = EventHandlers(name)

    @property
    def names(self) -> tuple[str, ...]:
        """Its name, and that which it continues; parked events of both are its own."""
        return (self.name,) if self.continues is None else (self.name, self.continues)

    @property
    def event_types(self) -> list[type[Event]] | None:
        """The events that have handlers; None for all events."""
        return self.handlers.event_types

    def handles(self, function: H) -> H:
        """Register a handler for the event, or union of events, that its first parameter names.

        Raises `DeciderError` for a handler that cannot work.
        """
        self.handlers.add_annotated(function)
        return function

    def subscribe(self, events: Iterable[type[Event]], handler: EventHandler) -> Self:
        """Register a handler of these events, or of all if none are named; returns itself.

        Raises `DeciderError` for a handler that cannot work.
        """
        self.handlers.add(events, handler)
        return self


def _check(name: str, start: object, acknowledge: object) -> None:
    is_position = isinstance(start, int) and not isinstance(start, bool) and start >= 0
    if not is_position and start not in ("all", "new"):
        raise DeciderError(
            f"subscriber {name}: start is {start!r}, which is neither 'all', 'new' nor a position"
        )
    if acknowledge not in ("after", "before"):
        raise DeciderError(
            f"subscriber {name}: acknowledge is {acknowledge!r}, neither 'after' nor 'before'"
        )


def _check_counts(name: str, **options: Any) -> None:
    for option, value in options.items():
        if type(value) is not int or value < 1:
            raise DeciderError(
                f"subscriber {name}: {option} is {value!r}; at least 1 is needed, a whole number"
            )


def _check_seconds(name: str, **options: Any) -> None:
    for option, value in options.items():
        if type(value) not in (int, float) or not _MIN_SECONDS <= value <= _MAX_SECONDS:
            raise DeciderError(
                f"subscriber {name}: {option} is {value!r}; it is from {_MIN_SECONDS:g} to "
                f"{_MAX_SECONDS:,.0f} seconds"
            )
