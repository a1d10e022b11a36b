"""Reading on trial: whether the code of today can still read an event, and if not, why.

An event is read as any reader does: its seals are opened, its payload is upcast to the classes of
today and decoded. What was forgotten is read in its forgotten form; a key that is gone though
nobody was forgotten is a reason. What was read is dropped at once.
"""

from __future__ import annotations

from collections.abc import Iterable

from eventstore.client.client import Client
from eventstore.errors import InvalidMessage, StreamMissing
from eventstore.jetstream.direct_get import StoredMessage
from eventstore.messages.codec import Codec
from eventstore.messages.encryption import NO_KEYS
from eventstore.store.keyring import Keyring

__all__ = ["TrialRead"]


class TrialRead:
    """Tries to read events of one domain; to be closed in the end."""

    def __init__(self, client: Client, codec: Codec) -> None:
        self._codec = codec
        self._keyring = Keyring(client, codec.subjects)
        self._keys = NO_KEYS

    async def close(self) -> None:
        """Let go of the keys."""
        await self._keyring.close()

    async def prepare(self, messages: Iterable[StoredMessage]) -> None:
        """Have the keys at hand that it takes to read these messages, and no others."""
        try:
            self._keys = await self._keyring.to_open(message.headers for message in messages)
        except StreamMissing:  # then every key in it is missing
            self._keys = NO_KEYS

    def problem(self, message: StoredMessage) -> str | None:
        """Why a message cannot be read; None where it can."""
        try:
            self._codec.recorded(
                message.subject, message.headers, message.payload, message.sequence, self._keys
            )
        except InvalidMessage as error:
            return str(error)
        return None
