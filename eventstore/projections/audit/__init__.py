"""The audit index: what happened, who did it, what it led to; events and commands alike.

The only room with rows that do not come from the log: the outcomes of commands.
"""

from eventstore.projections.audit.commands import CommandCollector
from eventstore.projections.audit.events import audit
from eventstore.projections.audit.index import AuditIndex, NoAuditIndex, audit_queries

__all__ = ["AuditIndex", "CommandCollector", "NoAuditIndex", "audit", "audit_queries"]
