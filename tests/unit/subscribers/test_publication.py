"""An event as it is published has all its own headers, and none that were for the log's stream."""

from __future__ import annotations

from itertools import repeat

import pytest
from msgspec.structs import replace

from eventstore import NO_STREAM, nix
from eventstore.client.protocol import header_block, read_headers
from eventstore.jetstream.publish import batch_lines
from eventstore.messages.envelope import EventHeaders, Identity
from eventstore.messages.event_lines import event_block, event_headers
from eventstore.messages.events import RecordedEvent
from eventstore.store.append import Append
from eventstore.store.pending_append import PendingAppend
from eventstore.subscribers.publication import publication
from tests.unit.projections.memory import ROOT, START

codec = nix.domain().codec


def recorded(lines: str, payload: bytes) -> RecordedEvent:
    """The event of a message of the log with these lines of headers."""
    found = event_block(r"\r\n").fullmatch(header_block(lines).decode())
    assert found is not None
    headers = event_headers(found.groups())
    assert headers is not None
    (event,) = codec.recorded(codec.subjects.log("module", "m1"), headers, payload, 7)
    return event


@pytest.mark.parametrize("actor", [None, "Anna \u2603"])
@pytest.mark.parametrize("batch", [repeat(""), batch_lines(2)], ids=["alone", "batch"])
def test_an_event_is_published_with_its_own_headers(actor: str | None, batch: list[str]) -> None:
    append = Append(
        aggregate="module",
        aggregate_id="m1",
        events=[nix.ModuleCreated(name="m", content="")] * 2,
        expected=NO_STREAM,
        cause=None if actor is None else Identity(ROOT, ROOT, ROOT),
        actor=actor,
    )
    for draft in PendingAppend(append, codec, START).drafts(batch):
        event = recorded(draft.lines, draft.payload)
        assert isinstance(event.headers, EventHeaders)
        published = publication(event, codec)
        one_by_one = publication(replace(event, headers=dict(event.headers)), codec)
        assert published == one_by_one
        own = {name: each for name, each in event.headers.items() if name[:5] != "Nats-"}
        own |= {"Nats-Msg-Id": event.id, "X-Position": "7"}
        assert read_headers(header_block(published.lines)) == own
