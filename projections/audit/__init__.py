"""The audit index: what happened, who did it, what it led to; events and commands alike."""

from projections.audit.commands import CommandCollector
from projections.audit.entries import Entry, Filter
from projections.audit.events import audit
from projections.audit.index import AuditIndex, Found
from projections.audit.story import Story, StoryLine

__all__ = [
    "AuditIndex",
    "CommandCollector",
    "Entry",
    "Filter",
    "Found",
    "Story",
    "StoryLine",
    "audit",
]
