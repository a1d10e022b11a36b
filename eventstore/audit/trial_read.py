"""Trial reads: whether the current code can still read an event, and if not, why.

An event is read as by any reader: decrypted, upcast to the current schema and decoded. Forgotten
personal data are read in their forgotten form; a key that is missing without a tombstone is a
problem. The result is discarded.
"""

from __future__ import annotations

from collections.abc import Iterable

from eventstore.client.client import Client
from eventstore.errors import InvalidMessage, StreamMissing
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.messages.codec import Codec
from eventstore.messages.encryption import NO_KEYS
from eventstore.store.keyring import Keyring


class TrialRead:
    """Tries to read events of one domain; to be closed with `close`."""

    def __init__(self, client: Client, codec: Codec) -> None:
        self._codec = codec
        self._keyring = Keyring(client, codec.subjects)
        self._keys = NO_KEYS

    async def close(self) -> None:
        """Drop the keys."""
        await self._keyring.close()

    async def prepare(self, messages: Iterable[StoredMessage]) -> None:
        """Load the keys that these messages are encrypted by, and drop all others."""
        try:
            self._keys = await self._keyring.to_open(message.headers for message in messages)
        except StreamMissing:  # without the bucket every key is missing
            self._keys = NO_KEYS

    def problem(self, message: StoredMessage) -> str | None:
        """Why a message cannot be read; None if it can."""
        try:
            self._codec.recorded(
                message.subject, message.headers, message.payload, message.sequence, self._keys
            )
        except InvalidMessage as error:
            return str(error)
        return None
