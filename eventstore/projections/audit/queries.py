"""The queries of an audit that are answered from the index, by their handlers."""

from __future__ import annotations

from eventstore.audit import AuditEntry, CausationTree, SearchAudit, TraceCorrelation
from eventstore.messages.queries import Listed
from eventstore.projections.audit.events import audit
from eventstore.projections.audit.search import search
from eventstore.projections.audit.tracing import trace
from eventstore.projections.queries.queries import QueryHandlers
from eventstore.projections.queries.rows import Rows

__all__ = ["audit_queries"]

audit_queries = QueryHandlers(audit)
"""The handlers of `TraceCorrelation` and `SearchAudit`; `GetHistory` is answered from the log."""


@audit_queries.answers
def trace_story(query: TraceCorrelation, rows: Rows) -> CausationTree:
    """A whole story."""
    return trace(query, rows)


@audit_queries.answers
def search_audit(query: SearchAudit, rows: Rows) -> Listed[AuditEntry]:
    """Some of the events and commands."""
    return search(query, rows)
