"""Poison messages: parked with the reason, listed, retried and discarded.

Only those who park use more of it than it lists: commands, subscribers and delegation.
"""

from eventstore.parking.erasing import ErasureReport
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
