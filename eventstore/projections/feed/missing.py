"""Events that the feed passed over, because the log had another end then: published afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from eventstore.client.client import Client
from eventstore.errors import UnreadableEvent
from eventstore.jetstream.api import stream_info
from eventstore.jetstream.publish import check_sizes, guarded, publish
from eventstore.jetstream.vocabulary import NatsHeader
from eventstore.messages.opaque import OpaqueEvent
from eventstore.store.store import EventStore
from eventstore.subscribers.publication import data_subjects, publication

_SECONDS = 5.0


async def publish_missing(
    client: Client,
    store: EventStore,
    positions: Iterable[int],
    published: Callable[[int], object] = lambda _: None,
) -> int:
    """Publish the events at some positions of the log, in order; returns how many these were.

    No feed may publish meanwhile: each is stored only if it is next in the event stream. What
    cannot be read, is no event, or is opaque is left out. Calls `published` with each position.
    Raises `JetStreamError` if somebody else publishes, `EventTooLarge`, and `ClientError`.
    """
    stream = store.codec.subjects.event_stream
    last = (await stream_info(client, stream)).state.last_seq
    count = 0
    for position in positions:
        try:
            read = await store.read_at(position, leader=True)
        except UnreadableEvent:
            continue
        events = [each for each in read if not isinstance(each.data, OpaqueEvent)]
        if events:
            keys = await store.keyring.to_seal(data_subjects(events, store.codec))
            drafts = guarded([publication(each, store.codec, keys) for each in events], {})
            drafts[0] = drafts[0].plus(f"{NatsHeader.EXPECTED_LAST_SEQUENCE}: {last}\r\n")
            check_sizes(drafts, client.max_payload)
            last = (await publish(client, drafts, _SECONDS, stream)).seq
            count += 1
        published(position)
    return count
