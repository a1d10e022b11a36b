"""Answer queries from read models: decode, wait for a position, read in one transaction.

It only reads.
"""

from eventstore.projections.queries.filters import begins, equals, given, has_element
from eventstore.projections.queries.queries import QueryHandlers, query_answers
from eventstore.projections.queries.rows import Rows
from eventstore.projections.queries.waiting import CheckpointPositions, Positions

__all__ = [
    "CheckpointPositions",
    "Positions",
    "QueryHandlers",
    "Rows",
    "begins",
    "equals",
    "given",
    "has_element",
    "query_answers",
]
