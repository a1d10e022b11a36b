"""Answering requests on subjects, in a queue group with the other instances of a service."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress

import msgspec

from eventstore.client.admission import Admission, Slot, requester_of
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
from eventstore.messages.envelope import check_message_id, derive_id
from eventstore.messages.headers import Header
from eventstore.messages.text import make_log_records_safe, presentable


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request: subject, payload and headers; `slot` is internal to the responder."""

    subject: str
    payload: bytes
    headers: Mapping[str, str] = {}
    slot: Slot | None = None

    @asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """Let other requests run inside the block, which must only wait.

        Raises `ServiceBusy` at its end if no slot is free in time.
        """
        async with nullcontext() if self.slot is None else self.slot.released():
            yield


class Reply(msgspec.Struct, frozen=True):
    """A reply: a JSON payload, and headers besides those of the envelope."""

    payload: bytes
    headers: Mapping[str, str] = {}


Answer = Callable[[Request], Awaitable[Reply]]
"""From a request to its reply; raises an `EventStoreError` to answer with that."""

_JSON = {Header.CONTENT_TYPE: "application/json"}
_MAX_HEADER = 1_000
_DRAIN_SECONDS = 5.0

_logger = make_log_records_safe(logging.getLogger(__name__))


class Responder:
    """Answers requests on some subjects; to be run (`eventstore.running`).

    Each request goes to one of the instances that share `queue`. Each instance answers at most
    `max_concurrency` at a time, not counting those in `Request.waiting`. At most `max_pending` run
    or wait, for at most `max_wait` seconds, after which the requester may be gone; others are
    answered with `ServiceBusy`. Requesters are served round-robin; when the queue is full, the one
    with most requests is refused first.

    A request needs no ids. If it has some (`X-Event-ID`, `X-Correlation-ID`), the answer is a
    message that it caused, with the same correlation id, unless `named` is False. Other headers of
    a request are never returned, and only inboxes are answered (`eventstore.client.reply_gate`).
    Errors are answered too, as an object with "status" (which is "error"), "code" and "message",
    and with NATS micro's headers for errors. So is an answer that exceeds the server's maximum
    payload.

    `ready` is set when it is subscribed.
    """

    def __init__(
        self,
        client: Client,
        answers: Mapping[str, Answer],
        *,
        queue: str,
        max_concurrency: int = 64,
        max_pending: int = 1_024,
        max_wait: float = 4.0,  # less than the default timeout of requests
        named: bool = True,
    ) -> None:
        self._client = client
        self._answers = dict(answers)
        self._queue = queue
        self._admission = Admission(max_concurrency, max_pending=max_pending, max_wait=max_wait)
        self._named = named
        self._stopping = asyncio.Event()
        self.ready = asyncio.Event()

    @property
    def subjects(self) -> tuple[str, ...]:
        """The subjects on which it answers."""
        return tuple(self._answers)

    def stop(self) -> None:
        """Accept no more requests; `run` returns when those received are answered."""
        self._stopping.set()

    async def run(self) -> None:
        """Answer until `stop`, also after reconnects; raises `ClientError` if it cannot subscribe.

        Requests that are sent while the connection is lost are not answered.
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
                receive = self._receiving(tasks, answer)
                subscribed = await self._client.subscribe(subject, receive, queue=self._queue)
                subscriptions.append(subscribed)
            await self._client.flush()
            yield subscriptions
        finally:
            for subscription in subscriptions:
                await subscription.unsubscribe()

    async def _drain(self, subscriptions: Sequence[Subscription]) -> None:
        with suppress(ClientError, TimeoutError):  # without a connection nothing is on its way
            async with asyncio.timeout(_DRAIN_SECONDS):
                await self._client.stop_deliveries(*subscriptions)
                for subscription in subscriptions:
                    await subscription.processed()

    def _receiving(
        self, tasks: asyncio.TaskGroup, answer: Answer
    ) -> Callable[[Msg], Awaitable[None]]:
        async def receive(message: Msg) -> None:
            if not message.reply or not self._client.may_respond(message.reply, message.subject):
                return
            try:
                slot = self._admission.enqueue(requester_of(message.reply, message.headers or {}))
            except ServiceBusy as busy:
                await self._respond(message, _refusing(busy))
            else:
                task = tasks.create_task(self._respond(message, _in_turn(answer, slot), slot))
                task.add_done_callback(lambda _: slot.leave())

        return receive

    async def _respond(self, message: Msg, answer: Answer, slot: Slot | None = None) -> None:
        headers = message.headers or {}
        request = Request(subject=message.subject, payload=message.data, headers=headers, slot=slot)
        envelope = dict(_JSON)
        try:
            check_headers(message.headers)
            if self._named:
                envelope |= _caused_by(request.headers)
            reply = await answer(request)
        except Exception as error:  # the requester gets it, and other requests go on
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
        except InvalidMessage as error:  # not sent: the server would close the connection
            too_large = AnswerTooLarge(
                f"the answer has {len(reply.payload):,} bytes, and the server's maximum payload is "
                f"{self._client.max_payload:,}, headers included: ask for less, "
                "with a smaller limit"
            )
            too_large.__cause__ = error
            await self._publish(request, _failure(too_large), envelope)

    async def _publish(self, request: Msg, reply: Reply, envelope: Mapping[str, str]) -> None:
        headers = {**envelope, **reply.headers}
        await self._client.respond(
            request.reply, reply.payload, headers=headers, what=request.subject
        )


def _in_turn(answer: Answer, slot: Slot) -> Answer:
    async def reply(request: Request) -> Reply:
        async with slot:
            with only_own_cancellation():
                return await answer(request)

    return reply


def _refusing(error: EventStoreError) -> Answer:
    async def refuse(_request: Request) -> Reply:
        raise error

    return refuse


def _caused_by(request: Mapping[str, str]) -> dict[str, str]:
    """The headers that correlate an answer with the request that caused it, if that has ids."""
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
