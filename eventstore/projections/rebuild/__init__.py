"""Rebuild a projection in shadow tables, and switch to them in one transaction.

The only package that replaces the rows of a projection, and so restarts its checkpoint.
"""

from eventstore.projections.rebuild.auto_rebuild import auto_rebuild
from eventstore.projections.rebuild.rebuild import Rebuild, RebuildProgress

__all__ = ["Rebuild", "RebuildProgress", "auto_rebuild"]
