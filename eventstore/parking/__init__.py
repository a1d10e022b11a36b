"""Poison messages: parked with the reason, listed, retried and discarded.

Commands, subscribers and delegation, which park, also use names that are not listed here.
"""

from eventstore.parking.erasure import ErasureReport
from eventstore.parking.messages import (
    ParkedMessage,
    ParkedMessages,
    RetrySummary,
    UnreadableMessage,
)
from eventstore.parking.record import ParkedRecord

__all__ = [
    "ErasureReport",
    "ParkedMessage",
    "ParkedMessages",
    "ParkedRecord",
    "RetrySummary",
    "UnreadableMessage",
]
