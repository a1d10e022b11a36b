"""Poison messages: parked with the reason, listed, retried and discarded.

Only packages that park messages use its other modules: commands, subscribers and delegation.
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
