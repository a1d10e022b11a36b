"""A responder: answers requests on subjects, shared with the other instances of a service."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from eventstore.client import Client, Msg
from eventstore.errors import ClientError, EventStoreError

__all__ = ["Answer", "Responder"]

Answer = Callable[[bytes], Awaitable[bytes]]
"""From a request's payload to the answer's; raises an `EventStoreError` to answer with that."""

_JSON = {"Content-Type": "application/json"}

_logger = logging.getLogger("eventstore")


class Responder:
    """Answers what is asked on some subjects; a part to be run.

    Each request goes to one of the instances that share `queue`, and at most `at_once` are
    answered at a time by each. What goes wrong is answered too, as an object with "status"
    (which is "error"), "code" and "message", and with NATS micro's headers for errors.

    `ready` is set when requests are first taken.
    """

    def __init__(
        self,
        client: Client,
        answers: Mapping[str, Answer],
        *,
        queue: str,
        at_once: int = 64,
    ) -> None:
        self._client = client
        self._answers = dict(answers)
        self._queue = queue
        self._free = asyncio.Semaphore(at_once)
        self._stopping = asyncio.Event()
        self.ready = asyncio.Event()

    @property
    def subjects(self) -> tuple[str, ...]:
        """The subjects on which it answers."""
        return tuple(self._answers)

    def stop(self) -> None:
        """Take no more requests; `run` returns when those that were taken are answered."""
        self._stopping.set()

    async def run(self) -> None:
        """Answer until `stop`, also after reconnects; raises `ClientError` where it cannot begin.

        What is asked while the connection is lost is not answered.
        """
        async with asyncio.TaskGroup() as tasks:
            subscriptions = [
                await self._client.subscribe(
                    subject, self._taking(tasks, answer), queue=self._queue
                )
                for subject, answer in self._answers.items()
            ]
            await self._client.flush()
            self.ready.set()
            await self._stopping.wait()
            for subscription in subscriptions:
                await subscription.unsubscribe()

    def _taking(self, tasks: asyncio.TaskGroup, answer: Answer) -> Callable[[Msg], Awaitable[None]]:
        async def take(request: Msg) -> None:
            await self._free.acquire()
            task = tasks.create_task(self._respond(request, answer))
            task.add_done_callback(lambda _: self._free.release())

        return take

    async def _respond(self, request: Msg, answer: Answer) -> None:
        if not request.reply:
            return
        headers = _JSON
        try:
            payload = await answer(request.data)
        except Exception as error:  # who asks is told, and the others go on
            if not isinstance(error, EventStoreError):
                _logger.exception("no answer on %s", request.subject)
            headers, payload = _failure(error)
        try:
            await self._client.publish(request.reply, payload, headers=headers)
        except ClientError as error:
            _logger.warning("no answer on %s: %s", request.subject, error)


def _failure(error: Exception) -> tuple[dict[str, str], bytes]:
    code, text = "internal", "the answer could not be made"
    if isinstance(error, EventStoreError):
        code, text = error.code, " ".join(str(error).encode(errors="replace").decode().split())
    headers = {**_JSON, "Nats-Service-Error": text[:1_000], "Nats-Service-Error-Code": code}
    payload = msgspec.json.encode({"status": "error", "code": code, "message": text})
    return headers, payload
