"""Rebuild a projection beside its live tables, and switch in one transaction.

The only room that replaces the rows of a projection, and so restarts its checkpoint.
"""

from eventstore.projections.rebuild.auto_rebuild import auto_rebuild
from eventstore.projections.rebuild.rebuild import Rebuild, RebuildProgress

__all__ = ["Rebuild", "RebuildProgress", "auto_rebuild"]
