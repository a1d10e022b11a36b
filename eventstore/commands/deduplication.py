"""Which commands an aggregate has seen: those whose events it holds."""

from __future__ import annotations

from collections.abc import Iterable

from eventstore.store.command_filter import CommandFilter

__all__ = ["CommandDeduplication"]

_MANY = 512


class CommandDeduplication:
    """The ids of an aggregate's commands, each as it is, or in a filter.

    `earlier` holds those from before a snapshot; without it, all are there as they are. Filters
    take time and space, and are made of a few commands only when asked for; `filtering` says that
    one will be, and has it made as soon as there are many, while they come in.
    """

    def __init__(self, earlier: CommandFilter | None = None, *, filtering: bool = False) -> None:
        self._ids: set[str] = set()
        self._filter = earlier
        self._complete = earlier is None
        self._filtering = filtering

    def __len__(self) -> int:
        """How many ids are there as they are."""
        return len(self._ids)

    @property
    def filter_size(self) -> int:
        """Bytes of the filter."""
        return 0 if self._filter is None else self._filter.size

    def add(self, command_id: str) -> None:
        """The aggregate holds this command's events."""
        if command_id in self._ids:
            return
        self._ids.add(command_id)
        if self._filter is not None:
            self._filter.add(command_id)
        elif self._filtering and len(self._ids) >= _MANY:
            self.filter()

    def learn(self, command_ids: Iterable[str]) -> None:
        """Take the ids of all its commands from the log: those from before a snapshot too."""
        self._ids.update(command_ids)
        self._complete = True

    def may_hold(self, command_id: str) -> bool:
        """Whether the aggregate has seen this command; where True, the log has to be asked."""
        if command_id in self._ids:
            return True
        return not self._complete and self._filter is not None and command_id in self._filter

    def filter(self) -> CommandFilter:
        """All of them in a filter, for the next snapshot; it goes on to be added to."""
        if self._filter is None:
            self._filter = CommandFilter.empty()
            for command_id in self._ids:
                self._filter.add(command_id)
        return self._filter
