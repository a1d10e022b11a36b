"""The parts of a service, which the processes of a fleet can run apart."""

from __future__ import annotations

import msgspec


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """The parts that a process runs; see `Application.running`."""

    worker: bool = True
    projections: bool = True
    queries: bool = True
    feed: bool = True
    subscribers: bool = True

    @property
    def read_database(self) -> bool:
        """Whether a part uses the read-model database."""
        return self.projections or self.queries


ALL_PARTS = Parts()
"""The whole service."""
