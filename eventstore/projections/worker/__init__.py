"""The projection worker: reads the log and applies it to the tables of projections.

The only room that has a projection turn events into statements.
"""

from eventstore.projections.worker.worker import Progress, ProjectionWorker, WaitTimeout

__all__ = ["Progress", "ProjectionWorker", "WaitTimeout"]
