"""The audit index: every event, and every command with its outcome, to be searched and traced."""

from eventstore.projections.audit.commands import CommandCollector
from eventstore.projections.audit.events import audit
from eventstore.projections.audit.index import AuditIndex, NoAuditIndex
from eventstore.projections.audit.queries import audit_queries

__all__ = ["AuditIndex", "CommandCollector", "NoAuditIndex", "audit", "audit_queries"]
