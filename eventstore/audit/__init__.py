"""Audit: prove that history is what it was."""

from eventstore.audit.anchor import Anchor
from eventstore.audit.finding import Finding, Summary
from eventstore.audit.verify import verify

__all__ = ["Anchor", "Finding", "Summary", "verify"]
