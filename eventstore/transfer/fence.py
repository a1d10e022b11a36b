"""The fence around a log during an import: until it is complete, nobody else can write.

Meanwhile the stream listens on subjects that nobody else knows, and stores what it receives there
under the log's own. Other writers find no stream on the log's subjects, services refuse to start
(the stream is not as declared), and whoever takes the fence again locks out its previous owner.
"""

from __future__ import annotations

import secrets

from eventstore.client.client import Client
from eventstore.config import StreamSettings
from eventstore.errors import ImportRefused, JetStreamError
from eventstore.jetstream.api import create_stream, find_stream, update_stream
from eventstore.jetstream.retry import Retry
from eventstore.jetstream.topology import check, topology
from eventstore.jetstream.vocabulary import ErrorCode
from eventstore.messages.subjects import Subjects

_OPEN_SECONDS = 60.0


class Fence:
    """The fence around one log."""

    def __init__(self, client: Client, subjects: Subjects, settings: StreamSettings) -> None:
        self._client = client
        self._spec = topology(subjects, settings)[0]
        self.stream = self._spec.name
        self._log_prefix = f"{subjects.domain}.log."
        self._import_prefix = subjects.importing
        self._own_prefix = f"{self._import_prefix}{secrets.token_hex(16)}."

    async def state(self) -> tuple[int, bool]:
        """The position of the log's last message, and whether an import is in progress.

        Raises `StreamDrift` for a log that is not as declared, `ImportRefused` for an empty one
        that had events before.
        """
        info = await find_stream(self._client, self._spec.name)
        if info is None:
            return 0, False
        fenced = any(subject.startswith(self._import_prefix) for subject in info.subjects)
        if not fenced:
            await check(self._client, [self._spec])
        last = info.state.last_seq
        if last and not info.state.messages:
            raise ImportRefused(
                f"the log {self._spec.name} is empty, but had events once, so "
                "that positions would not begin at 1: delete the stream, and import again"
            )
        return last, fenced

    async def take(self) -> int:
        """Lock out everybody else; returns the position of the log's last message."""
        info = await find_stream(self._client, self._spec.name)
        found = self._spec.request if info is None else info.config
        change = create_stream if info is None else update_stream
        config = {
            **found,
            "subjects": [f"{self._own_prefix}*.*"],
            "subject_transform": {
                "src": f"{self._own_prefix}*.*",
                "dest": f"{self._log_prefix}{{{{wildcard(1)}}}}.{{{{wildcard(2)}}}}",
            },
        }
        try:
            await change(self._client, self._spec.name, config)
        except JetStreamError as error:
            if error.err_code != ErrorCode.STREAM_NAME_IN_USE:
                raise
            raise ImportRefused(
                f"another import into {self._spec.name} began just now: wait until it has ended"
            ) from error
        return await self.last()

    async def last(self) -> int:
        """The position of the log's last message; raises `ImportRefused` if the fence was lost."""
        info = await find_stream(self._client, self._spec.name)
        if info is None or info.subjects != [f"{self._own_prefix}*.*"]:
            raise ImportRefused(
                f"another import into {self._spec.name} has taken over; this one has ended"
            )
        return info.state.last_seq

    async def open(self) -> None:
        """Let everybody write to the log again, even if the connection breaks meanwhile.

        Raises `ImportRefused` if the fence was lost, or a `ClientError`.
        """
        await Retry(self._client, "ending an import", _OPEN_SECONDS).run(self._open)

    async def _open(self) -> None:
        info = await find_stream(self._client, self._spec.name)
        if info is not None and info.subjects == self._spec.settings["subjects"]:
            return  # the answer to the update was lost
        await self.last()
        found = {} if info is None else info.config
        config = {**found, "subjects": self._spec.settings["subjects"]}
        config.pop("subject_transform", None)
        await update_stream(self._client, self._spec.name, config)
        await check(self._client, [self._spec])

    def subject(self, subject: str) -> str:
        """The subject to publish on for a message that goes to a subject of the log."""
        return self._own_prefix + subject.removeprefix(self._log_prefix)
