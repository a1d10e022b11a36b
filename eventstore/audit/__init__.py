"""What the log alone can tell an auditor: an aggregate's history, and whether it was touched."""

from eventstore.audit.aggregate_history import AggregateHistory, Step, aggregate_history
from eventstore.audit.chains import ChainReport, ChainWalk, Witness, check_chain
from eventstore.audit.changes import Change

__all__ = [
    "AggregateHistory",
    "ChainReport",
    "ChainWalk",
    "Change",
    "Step",
    "Witness",
    "aggregate_history",
    "check_chain",
]
