"""Audit: why things are as they are, and that history is what it was.

What the log alone can tell is here, and the vocabulary of the queries; the index of all events
and commands is on the read side.
"""

from eventstore.audit.aggregate_history import aggregate_history
from eventstore.audit.anchor import Anchor
from eventstore.audit.causation_tree import CausationEntry, CausationTree
from eventstore.audit.chain_check import ChainReport, ChainWalk, Witness, check_chain
from eventstore.audit.diff import Change
from eventstore.audit.entries import Entry
from eventstore.audit.finding import Finding, Summary
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
    "ChainReport",
    "ChainWalk",
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
    "Witness",
    "aggregate_history",
    "check_chain",
    "verify",
]
