"""The message context: the message that is being handled, in a context variable.

Whatever calls a handler opens a `MessageContext` around the call. The commands that the handler
sends and the events that it publishes, at any depth, are then caused by that message, and get the
same ids each time the message is redelivered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from eventstore.messages.envelope import Identity, MessageId, derive_id
from eventstore.messages.events import RecordedEvent

_current: ContextVar[MessageContext | None] = ContextVar("eventstore_handling", default=None)


class MessageContext:
    """The handling of one message by one handler.

    `identity` is the message's; `by` names the handler, so that two handlers of the same message
    cause messages with different ids; `actor` and `traceparent` are passed on. `process` is the
    process on whose behalf it is handled, which learns of rejected commands.
    """

    def __init__(
        self,
        identity: Identity,
        by: str,
        *,
        actor: str | None = None,
        traceparent: str | None = None,
        process: str | None = None,
    ) -> None:
        self.identity = identity
        self.by = by
        self.actor = actor
        self.traceparent = traceparent
        self.process = process
        self._counts: Counter[str] = Counter()

    @classmethod
    def of(cls, event: RecordedEvent, by: str) -> MessageContext:
        """The handling of a recorded event, or of one part of it."""
        envelope = event.envelope
        by = f"{by}.{event.part}" if event.part else by
        return cls(envelope.identity, by, actor=envelope.actor, traceparent=envelope.traceparent)

    def caused(self, name: str, own_id: MessageId | None = None) -> Identity:
        """The identity of the next message of this name that the handled one causes.

        Its id is `own_id`, or derived from the handled message's id, the handler, the name and how
        many of this name came before: the same at each handling, if the handler causes those of one
        name in the same order. What it causes under other names does not matter.
        """
        if own_id is not None:
            return Identity.caused_by(self.identity, own_id)
        number = self._counts[name]
        self._counts[name] += 1
        derived = derive_id(self.identity.id, f"{self.by}/{name}/{number}")
        return Identity.caused_by(self.identity, derived)

    @contextmanager
    def begun(self) -> Iterator[None]:
        """Make this the current context inside the block, and in tasks that are started there."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)


def current() -> MessageContext | None:
    """The context of the calling code; None outside of a handler."""
    return _current.get()
