"""The projection worker: reads the log and applies it to the tables of projections.

The only package that calls handlers, and moves checkpoints forward.
"""

from eventstore.projections.worker.progress import Progress
from eventstore.projections.worker.worker import ProjectionWorker

__all__ = ["Progress", "ProjectionWorker"]
