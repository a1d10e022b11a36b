"""Handling: which message is being handled, known to all code that this runs.

Whoever hands a message to a handler opens a `MessageContext` around it. What the handler then sends
or publishes, however deep in its calls, is caused by that message without being handed anything,
and gets the same id each time the same message is handled again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from eventstore.messages.envelope import Identity, RecordedEvent, derive_id

__all__ = ["MessageContext", "current"]

_current: ContextVar[MessageContext | None] = ContextVar("eventstore_handling", default=None)


class MessageContext:
    """One handling of one message by one handler.

    `identity` is the message's; `by` names the handler, for two that handle the same message cause
    different ones; `actor` and `traceparent` are handed on.
    """

    def __init__(
        self,
        identity: Identity,
        by: str,
        *,
        actor: str | None = None,
        traceparent: str | None = None,
    ) -> None:
        self.identity = identity
        self.by = by
        self.actor = actor
        self.traceparent = traceparent
        self._counts: Counter[str] = Counter()

    @classmethod
    def of(cls, event: RecordedEvent, by: str) -> MessageContext:
        """The handling of a recorded event, or of one part of it."""
        envelope = event.envelope
        by = f"{by}.{event.part}" if event.part else by
        return cls(envelope.identity, by, actor=envelope.actor, traceparent=envelope.traceparent)

    def caused(self, name: str, own_id: str | None = None) -> Identity:
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
        """Make this the current handling inside the block, and in tasks that are begun there."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)


def current() -> MessageContext | None:
    """The handling that the calling code is part of; None where it is part of none."""
    return _current.get()
