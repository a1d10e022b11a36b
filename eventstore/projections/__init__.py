"""The read side: projections that build read models in SQL from the event log.

Nothing on the write side imports it, so a process that only writes does without SQLAlchemy.
"""

from eventstore.projections.projection import BoundStatement, Projection, Statement

__all__ = ["BoundStatement", "Projection", "Statement"]
