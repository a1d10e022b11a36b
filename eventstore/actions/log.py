"""The record of actions: who has done what to a service, when, and how that ended.

Each action has a subject of its own, with two messages: one before it is carried out, and one
afterwards. The stream takes no third one, and none can be deleted or replaced.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

import msgspec
from msgspec import Struct

from eventstore.client.client import Client
from eventstore.errors import ClientError, EventStoreError, NoLeader, NoResponders, PermissionDenied
from eventstore.jetstream.acceptance import until_accepted
from eventstore.jetstream.publish import publish_acked
from eventstore.messages.envelope import new_id
from eventstore.messages.headers import Header
from eventstore.messages.subjects import Subjects
from eventstore.messages.text import bounded, make_log_records_safe

MAX_NAME = 256
"""Characters of an actor's name, and of an action's; longer ones are cut."""

MAX_TARGET = 1_000
"""Characters of a target; a longer one is cut."""

_logger = make_log_records_safe(logging.getLogger(__name__))


class Begun(Struct, frozen=True, tag="begun"):
    """The message before an action."""

    action: str
    target: str
    actor: str


class Ended(Struct, frozen=True, tag="ended"):
    """The message after an action; `code` is that of the error that it has failed with."""

    code: str | None = None


class ActionLog:
    """Records the actions of a domain's administrators; `timeout` is seconds for each record."""

    def __init__(self, client: Client, subjects: Subjects, *, timeout: float = 5.0) -> None:
        self._client = client
        self._subjects = subjects
        self._timeout = timeout

    @asynccontextmanager
    async def recorded(self, action: str, target: str, actor: str) -> AsyncIterator[None]:
        """Record that an action begins, and at the end of the block that it is done, or failed.

        `action` is what is done, for example `timer-fire`, `target` what it is done to, and `actor`
        who does it, which is believed; the server adds the user of the connection, where users have
        accounts of their own. If nothing can be recorded, the block is not run: raises
        `NoResponders` without the stream or the permission to write to it, or another
        `ClientError`. Of a block that raises, the error's code is recorded, and not its text, which
        may have personal data. How an action ended is not guaranteed to be recorded: it is unknown
        for one that was cancelled, or whose process or connection was lost.
        """
        subject = self._subjects.action(new_id())
        named = bounded(action, MAX_NAME), bounded(target, MAX_TARGET), bounded(actor, MAX_NAME)
        try:
            await self._write(subject, Begun(*named))
        except NoLeader:
            raise
        except (NoResponders, PermissionDenied) as error:
            raise type(error)(
                f"{action} was not begun, because it cannot be recorded: {error}. A service of "
                f"this release creates {self._subjects.action_stream}, and `eventstore ops nats` "
                "writes the permissions"
            ) from error
        try:
            yield
        except Exception as error:
            code = error.code if isinstance(error, EventStoreError) else EventStoreError.code
            await self._end(subject, Ended(code))
            raise
        await self._end(subject, Ended())

    async def _end(self, subject: str, ended: Ended) -> None:
        try:
            await self._write(subject, ended)
        except ClientError as error:
            _logger.warning("%s: its end was not recorded: %s", subject, error)

    async def _write(self, subject: str, record: Begun | Ended) -> None:
        stream, payload = self._subjects.action_stream, msgspec.json.encode(record)
        headers = {Header.MESSAGE_ID: new_id()}

        def publish() -> Awaitable[object]:
            return publish_acked(self._client, subject, payload, headers, self._timeout, stream)

        await until_accepted(self._client, stream, publish, self._timeout)
