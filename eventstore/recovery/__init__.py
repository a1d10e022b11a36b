"""A log that went back: noticed by what else has seen of it, and recovered from when told to.

Only this package compares what the other streams, buckets and read models have seen of the log with
the log as a whole, and only it removes from them what the log no longer has.
"""

from eventstore.recovery.plan import RecoveryPlan, plan_recovery
from eventstore.recovery.recover import RecoverySummary, recover

__all__ = [
    "RecoveryPlan",
    "RecoverySummary",
    "plan_recovery",
    "recover",
]
