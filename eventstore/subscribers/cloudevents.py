"""CloudEvents: the attributes of a published event, in the binary mode of the binding for NATS.

The payload stays as it is, and the attributes are headers beside the others
(https://github.com/cloudevents/spec, NATS protocol binding 1.0.3).
"""

from __future__ import annotations

from collections.abc import Mapping

from eventstore.client.protocol import header_lines
from eventstore.errors import EventTooLarge
from eventstore.jetstream.publish import PUBLICATION_HEADERS, Draft, check_sizes
from eventstore.messages.headers import JSON, Header
from eventstore.messages.subjects import Subject

_ATTRIBUTES = {
    "ce-id": Header.EVENT_ID,
    "ce-time": Header.TIMESTAMP,
    "ce-subject": Header.AGGREGATE_ID,
    "ce-correlationid": Header.CORRELATION_ID,
    "ce-causationid": Header.CAUSATION_ID,
    "ce-traceparent": Header.TRACEPARENT,
}
"""Values of which the rules allow no character that would have to be percent-encoded."""


_BATCH_LINES = 200  # more than the headers that an atomic batch adds to each message


def as_cloud_event(draft: Draft, max_payload: int) -> Draft:
    """A publication with the attributes of a CloudEvent; without, if it became too large by them.

    `ce-type` is the domain and the type, such as `bank.Deposited`, and `ce-source` the domain as a
    path. Correlation, causation and trace are extensions of the specification.
    """
    event = draft.plus(header_lines(_attributes(draft.subject, draft.headers)))
    try:
        check_sizes([event], max_payload, added=PUBLICATION_HEADERS + _BATCH_LINES)
    except EventTooLarge:
        return draft
    return event


def _attributes(subject: str, headers: Mapping[str, str]) -> dict[str, str]:
    domain = Subject.parse(subject).domain
    return {
        "ce-specversion": "1.0",
        "ce-source": f"/{domain}",
        "ce-type": f"{domain}.{headers[Header.EVENT_TYPE]}",
        "ce-datacontenttype": headers.get(Header.CONTENT_TYPE, JSON),
        **{name: headers[own] for name, own in _ATTRIBUTES.items() if own in headers},
    }
