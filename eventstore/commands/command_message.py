"""A command as it is sent: its headers, its payload, and the digest that tells it from others."""

from __future__ import annotations

from collections.abc import Mapping

from eventstore.client.protocol import header_lines
from eventstore.commands.digest import digest_of, without_data
from eventstore.jetstream.publish import Draft
from eventstore.messages.codec import Codec
from eventstore.messages.envelope import Envelope, Identity
from eventstore.messages.headers import ID_DERIVED, expected_version_of
from eventstore.messages.types import Command


class CommandMessage:
    """A command to be sent with an envelope, and with further headers.

    Raises `InvalidMessage` for a command that may not be sent. The envelope is checked, unless it
    `is_checked`: nothing in it comes from the caller as it is.
    """

    __slots__ = ("_as_read", "_extra", "draft", "envelope")

    def __init__(
        self,
        codec: Codec,
        command: Command,
        envelope: Envelope,
        extra: Mapping[str, str],
        *,
        is_checked: bool,
    ) -> None:
        cls = type(command)
        payload, self._as_read = codec.round_trip(command)
        if not is_checked:
            envelope.to_headers()
        self.draft = Draft(
            codec.subjects.command(cls.__aggregate__, cls.__action__),
            envelope.event_lines() + header_lines(extra),
            payload,
            cls.__name__,
        )
        self.envelope = envelope
        self._extra = extra

    @property
    def identity(self) -> Identity:
        """The command's ids."""
        return self.envelope.identity

    @property
    def aggregate(self) -> str:
        """The kind of aggregate it is for."""
        return type(self._as_read).__aggregate__

    @property
    def digest(self) -> str:
        """Its digest, as a worker will compute it."""
        digest = digest_of(
            self._as_read,
            str(self.envelope.aggregate_id),
            self.identity.id,
            self.draft.payload,
            expected_version_of(self._extra),
        )
        return without_data(digest) if ID_DERIVED in self._extra else digest
