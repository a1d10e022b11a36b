"""The parts of a service, which processes of a fleet can run apart."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from eventstore.errors import ConfigurationError


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """The parts that a process runs; health, discovery and metrics are always there.

    `worker` carries out commands; `projections` keeps the read models and the audit index up to
    date; `queries` answers from them, whoever keeps them up to date; `feed` publishes the events;
    `subscribers` handles the published events.
    """

    worker: bool = True
    projections: bool = True
    queries: bool = True
    feed: bool = True
    subscribers: bool = True

    @property
    def read_database(self) -> bool:
        """Whether a part uses the read-model database."""
        return self.projections or self.queries

    def but(self, wanted: Mapping[str, bool]) -> Parts:
        """With some parts named otherwise; raises `ConfigurationError` for an unknown one."""
        unknown = ", ".join(sorted(set(wanted) - set(self.__struct_fields__)))
        if unknown:
            known = ", ".join(self.__struct_fields__)
            raise ConfigurationError(f"there is no part {unknown} of a service; there are {known}")
        return msgspec.structs.replace(self, **wanted)


ALL_PARTS = Parts()
"""The whole service."""
