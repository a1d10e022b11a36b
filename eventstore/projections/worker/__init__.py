"""The projection worker: reads the log and applies it to the tables of projections.

The only package that calls handlers, and moves checkpoints forward.
"""

from eventstore.projections.worker.worker import Progress, ProjectionWorker, WaitTimeout

__all__ = ["Progress", "ProjectionWorker", "WaitTimeout"]
