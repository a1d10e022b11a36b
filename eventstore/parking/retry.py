"""Retry requests for parked events, and their answer by the subscriber that failed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from eventstore.client.client import Client
from eventstore.client.responder import Answer, Reply, Request
from eventstore.errors import InvalidPayload, NoResponders, RequestTimeout, RetryFailed
from eventstore.jetstream.vocabulary import NatsHeader
from eventstore.messages.subjects import Subjects
from eventstore.messages.undecodable import UNDECODABLE


class _RetryRequest(msgspec.Struct):
    """A request to handle a parked event once more."""

    sequence: int


_decode = msgspec.json.Decoder(_RetryRequest).decode
_HANDLED = Reply(b'{"status":"success"}')


async def request_retry(
    client: Client, subjects: Subjects, subscriber: str, sequence: int, timeout: float
) -> None:
    """Return when the subscriber has handled a parked event, and it is no longer parked.

    Raises `RetryFailed` if it fails again, does not run, or does not reply within `timeout` seconds
    (it may then still succeed), and `ClientError`.
    """
    wanted = msgspec.json.encode(_RetryRequest(sequence))
    name = f"subscriber {subscriber}"
    try:
        answer = await client.request(subjects.retry(subscriber), wanted, timeout=timeout)
    except NoResponders as error:
        raise RetryFailed(sequence, f"{name} does not run; start it, and retry") from error
    except RequestTimeout as error:
        why = f"no answer from {name} within {timeout:g} s; once handled, it is parked no more"
        raise RetryFailed(sequence, why) from error
    problem = (answer.headers or {}).get(NatsHeader.SERVICE_ERROR)
    if problem is not None:
        raise RetryFailed(sequence, f"{name}: {problem}")


def retry_answer(retry: Callable[[int], Awaitable[None]]) -> Answer:
    """The answer to `request_retry`: the result of `retry`, which gets the sequence."""

    async def answer(request: Request) -> Reply:
        try:
            wanted = _decode(request.payload)
        except UNDECODABLE as error:
            raise InvalidPayload(f"{request.subject}: {error}") from error
        await retry(wanted.sequence)
        return _HANDLED

    return answer
