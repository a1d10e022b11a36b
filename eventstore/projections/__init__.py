"""The read side: projections that build read models in SQL from the event log.

The only room that needs SQLAlchemy; the write side does not import it.
"""

from eventstore.projections.projection import BoundStatement, Projection, Statement

__all__ = ["BoundStatement", "Projection", "Statement"]
