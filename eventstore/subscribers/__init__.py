"""Typed handlers of the event stream: delivery, retries and a durable position.

It publishes nothing: handlers do, by `EventPublisher` and `CommandClient`.
"""

from eventstore.subscribers.subscriber import EventSubscriber

__all__ = ["EventSubscriber"]
