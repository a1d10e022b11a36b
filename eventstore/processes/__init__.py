"""Process managers: follow events of several aggregates, and send commands, exactly once.

Their declaration is pure. What they do is recorded in the log, as events of their own aggregate,
before it is done.
"""

from eventstore.processes.process import Process
from eventstore.processes.reactions import (
    END,
    Actions,
    After,
    Cancel,
    ProcessContext,
    Reaction,
    Rejection,
    Send,
)
from eventstore.processes.rejections import ProcessRejections
from eventstore.processes.runner import process_runner

__all__ = [
    "END",
    "Actions",
    "After",
    "Cancel",
    "Process",
    "ProcessContext",
    "ProcessRejections",
    "Reaction",
    "Rejection",
    "Send",
    "process_runner",
]
