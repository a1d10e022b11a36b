"""The read side: builds read models in SQL from the event log, and feeds the event stream.

It reads the log and never appends to it. The write side does not import it, nor SQLAlchemy.
"""

from eventstore.projections.projection import BoundStatement, Projection, Statement

__all__ = ["BoundStatement", "Projection", "Statement"]
