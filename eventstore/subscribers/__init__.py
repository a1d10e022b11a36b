"""Typed handlers of the event stream: delivery, retries and a durable position."""

from eventstore.subscribers.subscriber import EventSubscriber

__all__ = ["EventSubscriber"]
