"""Typed handlers of the event stream, with retries and a durable position.

It publishes nothing itself: handlers do, by `EventPublisher` and `CommandClient`.
"""

from eventstore.subscribers.declaration import Subscriber, SubscriberOptions
from eventstore.subscribers.subscriber import EventSubscriber

__all__ = ["EventSubscriber", "Subscriber", "SubscriberOptions"]
