"""The audit index: what happened, who did it, what it led to; events and commands alike."""

from projections.audit.commands import CommandCollector
from projections.audit.events import audit
from projections.audit.index import AuditIndex, NoAuditIndex
from projections.audit.queries import audit_queries

__all__ = ["AuditIndex", "CommandCollector", "NoAuditIndex", "audit", "audit_queries"]
