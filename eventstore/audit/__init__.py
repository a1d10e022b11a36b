"""Audit of the log: verification, anchors, history and causation; and the audit's queries.

It only reads. The index of all events and commands is `eventstore.projections.audit`.
"""

from eventstore.audit.aggregate_history import aggregate_history, history_answers
from eventstore.audit.anchor import Anchor
from eventstore.audit.causation_tree import CausationEntry, CausationTree
from eventstore.audit.diff import Change
from eventstore.audit.entries import AuditEntry
from eventstore.audit.finding import Finding, VerifySummary
from eventstore.audit.history_starts import HistoryStart, HistoryStarts
from eventstore.audit.queries import (
    GetHistory,
    HistoryView,
    SearchAudit,
    StepView,
    StopView,
    TraceCorrelation,
)
from eventstore.audit.verify import verify

__all__ = [
    "Anchor",
    "AuditEntry",
    "CausationEntry",
    "CausationTree",
    "Change",
    "Finding",
    "GetHistory",
    "HistoryStart",
    "HistoryStarts",
    "HistoryView",
    "SearchAudit",
    "StepView",
    "StopView",
    "TraceCorrelation",
    "VerifySummary",
    "aggregate_history",
    "history_answers",
    "verify",
]
