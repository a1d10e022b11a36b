"""Audit: the vocabulary of its queries, and what the log alone can tell.

That is an aggregate's history, and whether anybody touched the record.
"""

from eventstore.audit.aggregate_history import aggregate_history
from eventstore.audit.chains import ChainReport, ChainWalk, Witness, check_chain
from eventstore.audit.changes import Change
from eventstore.audit.entries import Entry
from eventstore.audit.queries import GetHistory, HistoryView, SearchAudit, StepView, TraceStory
from eventstore.audit.story import Story, StoryLine

__all__ = [
    "ChainReport",
    "ChainWalk",
    "Change",
    "Entry",
    "GetHistory",
    "HistoryView",
    "SearchAudit",
    "StepView",
    "Story",
    "StoryLine",
    "TraceStory",
    "Witness",
    "aggregate_history",
    "check_chain",
]
