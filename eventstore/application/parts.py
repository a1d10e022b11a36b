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

    @property
    def read_side(self) -> Parts:
        """The same without the command worker."""
        return msgspec.structs.replace(self, worker=False)

    @property
    def write_side(self) -> Parts:
        """The command worker, if it is among them."""
        return Parts(
            worker=self.worker, projections=False, queries=False, feed=False, subscribers=False
        )

    @property
    def has_both_sides(self) -> bool:
        """Whether two processes can share them."""
        return self not in (self.read_side, self.write_side)


ALL_PARTS = Parts()
"""The whole service."""
