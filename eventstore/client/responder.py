"""A responder: answers requests on subjects, shared with the other instances of a service."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

import msgspec

from eventstore.client.admission import Admission, Slot, asker_of
from eventstore.client.client import Client, Msg, Subscription
from eventstore.client.protocol import check_headers
from eventstore.concurrency.failures import only_own_cancellation, ungrouped
from eventstore.errors import (
    AnswerTooLarge,
    ClientError,
    EventStoreError,
    InvalidHeader,
    InvalidId,
    InvalidMessage,
    ServiceBusy,
)
from eventstore.jetstream.vocabulary import NatsHeader
from eventstore.messages.envelope import Header, check_message_id, derive_id
from eventstore.text import make_log_records_safe, presentable

__all__ = ["Answer", "Reply", "Request", "Responder", "error_reply"]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked: the subject, the payload and the headers; `place` is the responder's own."""

    subject: str
    payload: bytes
    headers: Mapping[str, str] = {}
    place: Slot | None = None

    @asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """Let others be answered inside the block, in which nothing is done but to wait.

        Raises `ServiceBusy` at its end where there is no place again in time.
        """
        if self.place is None:
            yield
            return
        async with self.place.given_up():
            yield


class Reply(msgspec.Struct, frozen=True):
    """What is answered: a payload of JSON, and headers besides those of the envelope."""

    payload: bytes
    headers: Mapping[str, str] = {}


Answer = Callable[[Request], Awaitable[Reply]]
"""From a request to its reply; raises an `EventStoreError` to answer with that."""

_JSON = {Header.CONTENT_TYPE: "application/json"}
_MAX_HEADER = 1_000
_DRAIN_SECONDS = 5.0

_logger = make_log_records_safe(logging.getLogger(__name__))


class Responder:
    """Answers what is asked on some subjects; a part to be run.

    Each request goes to one of the instances that share `queue`, and at most `max_concurrency` are
    answered at a time by each, those not counted that wait (`Request.waiting`). At most
    `max_pending` are held, and none waits for its turn for more than `max_wait` seconds, for nobody
    may wait for its answer then: the others are answered with `ServiceBusy`. Those who ask take
    turns, and where there is no room for all, who asks most is refused first.

    A request may come bare; to one that names itself (`X-Event-ID`, `X-Correlation-ID`) the answer
    is a message which that caused, of the same story, unless `named` is False. Other headers of a
    request are never given back, and only inboxes are answered (`eventstore.client.reply_gate`).
    What goes wrong is answered too, as an object with "status" (which is "error"), "code" and
    "message", and with NATS micro's headers for errors. So is an answer that is larger than the
    server takes.

    `ready` is set when requests are first taken.
    """

    def __init__(
        self,
        client: Client,
        answers: Mapping[str, Answer],
        *,
        queue: str,
        max_concurrency: int = 64,
        max_pending: int = 1_024,
        max_wait: float = 4.0,  # less than who asks waits where nothing else is said
        named: bool = True,
    ) -> None:
        self._client = client
        self._answers = dict(answers)
        self._queue = queue
        self._places = Admission(max_concurrency, max_pending=max_pending, max_wait=max_wait)
        self._named = named
        self._stopping = asyncio.Event()
        self.ready = asyncio.Event()

    @property
    def subjects(self) -> tuple[str, ...]:
        """The subjects on which it answers."""
        return tuple(self._answers)

    def stop(self) -> None:
        """Take no more requests; `run` returns when those that have come are answered."""
        self._stopping.set()

    async def run(self) -> None:
        """Answer until `stop`, also after reconnects; raises `ClientError` where it cannot begin.

        What is asked while the connection is lost is not answered.
        """
        with ungrouped():
            async with asyncio.TaskGroup() as tasks, self._subscribed(tasks) as subscriptions:
                self.ready.set()
                await self._stopping.wait()
                await self._drain(subscriptions)

    @asynccontextmanager
    async def _subscribed(self, tasks: asyncio.TaskGroup) -> AsyncIterator[list[Subscription]]:
        subscriptions: list[Subscription] = []
        try:
            for subject, answer in self._answers.items():
                taking = self._taking(tasks, answer)
                subscribed = await self._client.subscribe(subject, taking, queue=self._queue)
                subscriptions.append(subscribed)
            await self._client.flush()
            yield subscriptions
        finally:
            for subscription in subscriptions:
                await subscription.unsubscribe()

    async def _drain(self, subscriptions: Sequence[Subscription]) -> None:
        """Have nothing more come, and take all that was on its way."""
        with suppress(ClientError, TimeoutError):  # without a connection nothing is on its way
            async with asyncio.timeout(_DRAIN_SECONDS):
                await self._client.silence(*subscriptions)
                for subscription in subscriptions:
                    await subscription.worked_off()

    def _taking(self, tasks: asyncio.TaskGroup, answer: Answer) -> Callable[[Msg], Awaitable[None]]:
        async def take(message: Msg) -> None:
            if not message.reply or not self._client.may_respond(message.reply, message.subject):
                return
            try:
                place = self._places.want(asker_of(message.reply, message.headers or {}))
            except ServiceBusy as busy:
                await self._respond(message, _refusing(busy))
            else:
                task = tasks.create_task(self._respond(message, _in_turn(answer, place), place))
                task.add_done_callback(lambda _: place.leave())

        return take

    async def _respond(self, message: Msg, answer: Answer, place: Slot | None = None) -> None:
        request = Request(
            subject=message.subject,
            payload=message.data,
            headers=message.headers or {},
            place=place,
        )
        envelope = dict(_JSON)
        try:
            check_headers(message.headers)
            if self._named:
                envelope |= _caused_by(request.headers)
            reply = await answer(request)
        except Exception as error:  # who asks is told, and the others go on
            if not isinstance(error, EventStoreError):
                _logger.exception("no answer on %s", request.subject)
            reply = _failure(error)
        try:
            await self._send(message, reply, envelope)
        except (ClientError, InvalidMessage) as error:
            _logger.warning("no answer on %s: %s", request.subject, error)

    async def _send(self, request: Msg, reply: Reply, envelope: Mapping[str, str]) -> None:
        try:
            await self._publish(request, reply, envelope)
        except InvalidHeader as error:
            await self._publish(request, _failure(error), envelope)
        except InvalidMessage as error:  # it is not sent: the server would end the connection
            too_large = AnswerTooLarge(
                f"the answer has {len(reply.payload):,} bytes, and the server takes "
                f"{self._client.max_payload:,} in one message, headers included: ask for less, "
                "with a smaller limit"
            )
            too_large.__cause__ = error
            await self._publish(request, _failure(too_large), envelope)

    async def _publish(self, request: Msg, reply: Reply, envelope: Mapping[str, str]) -> None:
        headers = {**envelope, **reply.headers}
        await self._client.respond(
            request.reply, reply.payload, headers=headers, what=request.subject
        )


def _in_turn(answer: Answer, place: Slot) -> Answer:
    async def reply(request: Request) -> Reply:
        async with place:
            with only_own_cancellation():
                return await answer(request)

    return reply


def _refusing(error: EventStoreError) -> Answer:
    async def refuse(_request: Request) -> Reply:
        raise error

    return refuse


def _caused_by(request: Mapping[str, str]) -> dict[str, str]:
    """The headers by which an answer names the request that caused it, as far as that has ids."""
    own = _id(request, Header.EVENT_ID)
    correlation = _id(request, Header.CORRELATION_ID) or own
    ids = {} if correlation is None else {Header.CORRELATION_ID: correlation}
    if own is not None:
        ids |= {Header.CAUSATION_ID: own, Header.EVENT_ID: derive_id(own, "answer")}
    return ids


def _id(headers: Mapping[str, str], name: str) -> str | None:
    value = headers.get(name)
    try:
        return None if value is None else check_message_id(value)
    except InvalidId as error:
        shown = (value or "")[:80]
        raise InvalidHeader(
            name, f"is {shown!r}, not a UUID in lower-case canonical form"
        ) from error


def _failure(error: Exception) -> Reply:
    if isinstance(error, EventStoreError):
        return error_reply(error.code, str(error))
    return error_reply("internal", "the answer could not be made")


def error_reply(code: str, text: str) -> Reply:
    """The reply for an error, in one line: in NATS micro's headers, and as a JSON object."""
    text = presentable(" ".join(text.split()))
    headers = {NatsHeader.SERVICE_ERROR: text[:_MAX_HEADER], NatsHeader.SERVICE_ERROR_CODE: code}
    return Reply(msgspec.json.encode({"status": "error", "code": code, "message": text}), headers)
