"""The consumers of an application's subscribers and processes, as they are declared."""

from __future__ import annotations

from collections.abc import Iterator

from eventstore.application.declaration import Declaration
from eventstore.messages.subjects import Subjects
from eventstore.processes.runner import triggers
from eventstore.subscribers import Subscriber
from eventstore.subscribers.consumer import SubscriberConsumer
from eventstore.subscribers.subscription import subjects_of


def declared_consumers(app: Declaration, subjects: Subjects) -> Iterator[SubscriberConsumer]:
    """All but those of subscribers that only a running service makes."""
    for subscriber in app.subscribers:
        if isinstance(subscriber, Subscriber):
            yield SubscriberConsumer.of(subjects, subscriber)
    for process in app.processes:
        yield SubscriberConsumer(process.name, subjects_of(subjects, triggers(process)))
