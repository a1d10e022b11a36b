"""Errors as pages: which status each has, what it is called, and whether waiting can help."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from eventstore.errors import (
    AnswerTooLarge,
    AuthenticationFailed,
    ConfigurationError,
    ConnectFailed,
    ConnectionLost,
    EventStoreError,
    InvalidMessage,
    JetStreamError,
    NoResponders,
    NoTimer,
    NotParked,
    ParkedError,
    PermissionDenied,
    QueryNotFound,
    QueryRefused,
    QueryTimeout,
    QueueFull,
    RequestTimeout,
    ServiceBusy,
    StreamMissing,
    UnknownType,
)

_STATUSES: tuple[tuple[tuple[type[EventStoreError], ...], int], ...] = (
    ((NotParked, NoTimer, QueryNotFound, UnknownType), 404),
    ((PermissionDenied,), 403),
    ((InvalidMessage, ConfigurationError), 400),
    ((ParkedError, QueueFull, JetStreamError), 409),
    ((ConnectFailed, AuthenticationFailed, ConnectionLost, RequestTimeout), 503),
    ((NoResponders, StreamMissing, QueryTimeout, ServiceBusy), 503),
    ((AnswerTooLarge,), 502),
)
_CLIENTS_FAULT = ("invalid_payload", "invalid_message", "invalid_header", "configuration")
_TITLES: Mapping[int, str] = {
    400: "That cannot be looked up",
    401: "Please log in",
    403: "Not permitted",
    404: "Not found",
    405: "Not possible",
    409: "It was not done",
    413: "Too much at once",
    500: "The console failed",
    502: "The answer cannot be used",
    503: "Not reachable",
    504: "It took too long",
}


class Problem(Struct, frozen=True):
    """A page about an error: its HTTP status, its title and its text."""

    status: int
    title: str
    text: str

    @property
    def passes(self) -> bool:
        """Whether the same page may work later, so that it is to be reloaded by itself."""
        return self.status == 503

    @classmethod
    def of(cls, error: EventStoreError) -> Problem:
        """The page for an error of the library."""
        return cls.with_status(_status(error), str(error))

    @classmethod
    def with_status(cls, status: int, text: str) -> Problem:
        """The page for a status."""
        return cls(status, _TITLES.get(status, "That did not work"), text)


def _status(error: EventStoreError) -> int:
    if isinstance(error, QueryRefused):
        return 400 if error.code in _CLIENTS_FAULT else 502
    return next((status for kinds, status in _STATUSES if isinstance(error, kinds)), 502)
