"""Retrying parked events: who wants it asks, and the subscriber that had failed answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from eventstore.client.client import Client
from eventstore.client.responder import Answer, Reply, Request
from eventstore.errors import InvalidPayload, NoResponders, RequestTimeout, RetryFailed
from eventstore.jetstream.vocabulary import NatsHeader
from eventstore.messages.subjects import Subjects
from eventstore.undecodable import UNDECODABLE

__all__ = ["ask_to_retry", "retry_answer"]


class _Asked(msgspec.Struct):
    """The parked event that is to be handled again, by its sequence."""

    sequence: int


_decode = msgspec.json.Decoder(_Asked).decode
_HANDLED = Reply(b'{"status":"success"}')


async def ask_to_retry(
    client: Client, subjects: Subjects, subscriber: str, sequence: int, timeout: float
) -> None:
    """Return when the subscriber has handled a parked event, and it is no longer parked.

    Raises `RetryFailed` where it has failed again, does not run, or has not answered within
    `timeout` seconds (it may then still succeed), and other `ClientError`s.
    """
    asked = msgspec.json.encode(_Asked(sequence))
    who = f"subscriber {subscriber}"
    try:
        answer = await client.request(subjects.retry(subscriber), asked, timeout=timeout)
    except NoResponders as error:
        raise RetryFailed(sequence, f"{who} does not run; start it, and retry") from error
    except RequestTimeout as error:
        why = f"no answer from {who} within {timeout:g} s; once handled, it is parked no more"
        raise RetryFailed(sequence, why) from error
    problem = (answer.headers or {}).get(NatsHeader.SERVICE_ERROR)
    if problem is not None:
        raise RetryFailed(sequence, f"{who}: {problem}")


def retry_answer(retry: Callable[[int], Awaitable[None]]) -> Answer:
    """Answers `ask_to_retry` by what becomes of `retry`, which is given the sequence."""

    async def answer(request: Request) -> Reply:
        try:
            asked = _decode(request.payload)
        except UNDECODABLE as error:
            raise InvalidPayload(f"{request.subject}: {error}") from error
        await retry(asked.sequence)
        return _HANDLED

    return answer
