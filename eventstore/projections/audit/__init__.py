"""The audit index: every event, and every command with its outcome, to search and to trace.

The only package with rows that do not come from the log: the outcomes of commands.
"""

from eventstore.projections.audit.commands import CommandCollector, forget_commands
from eventstore.projections.audit.events import audit
from eventstore.projections.audit.index import AuditIndex, audit_queries

__all__ = ["AuditIndex", "CommandCollector", "audit", "audit_queries", "forget_commands"]
