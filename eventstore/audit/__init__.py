"""Audit: what the log alone shows of its own history, and the vocabulary of the audit's queries.

It only reads. The index of all events and commands is `eventstore.projections.audit`.
"""

from eventstore.audit.aggregate_history import aggregate_history
from eventstore.audit.anchor import Anchor
from eventstore.audit.causation_tree import CausationEntry, CausationTree
from eventstore.audit.diff import Change
from eventstore.audit.entries import Entry
from eventstore.audit.finding import Finding, Summary
from eventstore.audit.history_answer import history_answers
from eventstore.audit.queries import (
    GetHistory,
    HistoryView,
    SearchAudit,
    StepView,
    StopView,
    TraceStory,
)
from eventstore.audit.verify import verify

__all__ = [
    "Anchor",
    "CausationEntry",
    "CausationTree",
    "Change",
    "Entry",
    "Finding",
    "GetHistory",
    "HistoryView",
    "SearchAudit",
    "StepView",
    "StopView",
    "Summary",
    "TraceStory",
    "aggregate_history",
    "history_answers",
    "verify",
]
