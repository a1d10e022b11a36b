"""The projection worker: reads the log and applies it to the tables of projections."""

from eventstore.projections.worker.worker import Progress, ProjectionWorker, WaitTimeout

__all__ = ["Progress", "ProjectionWorker", "WaitTimeout"]
