"""Processes: what follows from events for other aggregates, as commands that handlers send."""

from eventstore.processes.stale_packages import BuildsOf, stale_packages

__all__ = ["BuildsOf", "stale_packages"]
