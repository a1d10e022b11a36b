"""Errors with which queries are answered."""

from __future__ import annotations

from eventstore.errors.base import EventStoreError


class QueryError(EventStoreError, code="query"):
    """A query was answered with an error instead of data; the text is the answer's."""


class QueryNotFound(QueryError, code="not_found"):
    """The queried item does not exist at the position that the answer reflects."""


class QueryTimeout(QueryError, code="timeout", retryable=True):
    """The read model did not reach the awaited position in time.

    Its code is "timeout", as that of `CommandTimeout`: a query's answer and a command's outcome are
    never the same message, so that whoever reads a code knows which of both it is.
    """


class QueryRefused(QueryError, code="refused"):
    """The service answered with an error of its own, with its `code` and `message`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code  # type: ignore[misc]  # of the instance here, of the class elsewhere
        self.message = message


class AnswerTooLarge(QueryError, code="answer_too_large"):
    """The answer does not fit into one message: request less, with a smaller limit for example."""


class HistoryTooLong(QueryError, code="history_too_long"):
    """More events than were allowed would have to be read for an aggregate's history."""


class ServiceBusy(QueryError, code="busy", retryable=True):
    """The service has too many requests, and refused this one."""
