"""Timers: commands for later, which the server keeps and queues when they are due (ADR-51).

No process waits for a timer. The only package that writes `{DOMAIN}_TIMER`.
"""

from eventstore.timers.schedule import Schedule
from eventstore.timers.timer import Timer
from eventstore.timers.timers import TimerCounts, Timers

__all__ = ["Schedule", "Timer", "TimerCounts", "Timers"]
