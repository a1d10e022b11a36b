"""Audit: explains how a state came about, and verifies that no recorded event was changed.

Here is what needs the log alone, and the types of the audit queries; the index of all events and
commands is in `eventstore.projections.audit`.
"""

from eventstore.audit.aggregate_history import aggregate_history
from eventstore.audit.anchor import Anchor
from eventstore.audit.causation_tree import CausationEntry, CausationTree
from eventstore.audit.chain_check import ChainReport, ChainWalk, Witness, check_chain
from eventstore.audit.diff import Change
from eventstore.audit.entries import AuditEntry
from eventstore.audit.finding import Finding, VerifySummary
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
    "ChainReport",
    "ChainWalk",
    "Change",
    "Finding",
    "GetHistory",
    "HistoryView",
    "SearchAudit",
    "StepView",
    "StopView",
    "TraceCorrelation",
    "VerifySummary",
    "Witness",
    "aggregate_history",
    "check_chain",
    "verify",
]
