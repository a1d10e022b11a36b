"""The durable consumer of the command stream, which all command workers of a domain share."""

from __future__ import annotations

from eventstore.jetstream.topology import ConsumerSpec
from eventstore.messages.codec import Codec

CONSUMER = "worker"
"""Its name."""

ACK_WAIT = 5.0
"""Seconds: so that a client, which waits for ten by default, gets the outcome from a survivor.

A consumer that exists keeps its own: processes of a release that declares another one would not
start beside this one.
"""

_MAX_ACK_PENDING = 10_000


def worker_consumer(codec: Codec, *, ack_wait: float = ACK_WAIT) -> ConsumerSpec:
    """The durable consumer that all command workers of a domain share."""
    subjects = codec.subjects
    return ConsumerSpec(
        subjects.command_stream,
        CONSUMER,
        {
            "durable_name": CONSUMER,
            "ack_policy": "explicit",
            "filter_subject": subjects.filter("cmd"),
            "max_deliver": -1,
            "max_ack_pending": _MAX_ACK_PENDING,
        },
        {"ack_wait": int(ack_wait * 1e9)},
    )
