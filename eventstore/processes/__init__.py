"""Process managers: follow events of several aggregates, and send commands, exactly once.

Their declaration is pure. What they do is recorded in the log, as events of their own aggregate,
before it is done.
"""

from eventstore.processes.process import Process
from eventstore.processes.queries import (
    GetProcess,
    ListProcesses,
    ProcessList,
    ProcessView,
    process_answers,
)
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
from eventstore.processes.retry import retry_failed
from eventstore.processes.runner import process_runner
from eventstore.processes.status import ProcessStatus, ProcessStep

__all__ = [
    "END",
    "Actions",
    "After",
    "Cancel",
    "GetProcess",
    "ListProcesses",
    "Process",
    "ProcessContext",
    "ProcessList",
    "ProcessRejections",
    "ProcessStatus",
    "ProcessStep",
    "ProcessView",
    "Reaction",
    "Rejection",
    "Send",
    "process_answers",
    "process_runner",
    "retry_failed",
]
