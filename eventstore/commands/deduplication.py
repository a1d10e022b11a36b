"""Command deduplication: the ids of the commands that an aggregate's events came from."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import aclosing

from eventstore.commands.decoding import DecodedCommand
from eventstore.commands.digest import is_other
from eventstore.commands.object_size import allocated
from eventstore.commands.results import succeeded
from eventstore.errors import CommandIdReused
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.messages.headers import COMMAND_DIGEST, NO_COMMAND, Header
from eventstore.messages.outcome import Outcome
from eventstore.store.command_filter import CommandFilter
from eventstore.store.head import Head
from eventstore.store.store import EventStore

_MANY_IDS = 512

_ID_BYTES = 96
"""A UUID as text, as the interpreter's allocator takes it."""


class CommandDeduplication:
    """The ids of an aggregate's commands, in a set and, from before a snapshot, in a filter.

    `earlier` is the filter of those from before a snapshot; without it, all are in the set. A
    filter takes time and space, and is made of a few commands only when it is requested;
    `filtering` says that it will be, and makes it as soon as there are many ids.
    """

    __slots__ = ("_complete", "_filter", "_filtering", "_ids")

    def __init__(self, earlier: CommandFilter | None = None, *, filtering: bool = False) -> None:
        self._ids: set[str] = set()
        self._filter = earlier
        self._complete = earlier is None
        self._filtering = filtering

    def __len__(self) -> int:
        """The number of ids in the set."""
        return len(self._ids)

    @property
    def size(self) -> int:
        """Bytes in memory: of the ids, their set and the filter."""
        bits = 0 if self._filter is None else self._filter.size
        return len(self._ids) * _ID_BYTES + allocated(self._ids) + bits

    def add(self, command_id: str) -> None:
        """Add a command whose events the aggregate has."""
        if command_id in self._ids:
            return
        self._ids.add(command_id)
        if self._filter is not None:
            self._filter.add(command_id)
        elif self._filtering and len(self._ids) >= _MANY_IDS:
            self.filter()

    def learn(self, command_ids: Iterable[str]) -> None:
        """Add the ids of all its commands from the log, including those from before a snapshot."""
        self._ids.update(command_ids)
        self._complete = True

    def may_hold(self, command_id: str) -> bool:
        """Whether the aggregate may have this command's events; if True, look into the log."""
        if command_id in self._ids:
            return True
        return not self._complete and self._filter is not None and command_id in self._filter

    def filter(self) -> CommandFilter:
        """The filter of all ids, for the next snapshot; later ids are added to it."""
        if self._filter is None:
            self._filter = CommandFilter.empty()
            for command_id in self._ids:
                self._filter.add(command_id)
        return self._filter


async def first_outcome(
    store: EventStore, command: DecodedCommand, seen: CommandDeduplication
) -> Outcome | None:
    """The outcome of a command whose events are recorded; None, with all ids added, if none are.

    Raises `CommandIdReused` if they are another command's, or facts: events that name themselves as
    their cause, or are marked as facts. Events recorded before there were digests have neither mark
    nor digest.
    """
    caused, commands = list[StoredMessage](), set[str]()
    async with aclosing(store.read_stored(*command.key, leader=True)) as stored:
        async for message, _ in stored:
            cause = message.headers[Header.CAUSATION_ID]
            commands.add(cause)
            if cause == command.identity.id:
                caused.append(message)
    if not caused:
        seen.learn(commands)
        return None
    own = [each for each in caused if not _is_fact(each)]
    if not own or is_other(command.digest, own[0].headers.get(COMMAND_DIGEST)):
        raise CommandIdReused(command.identity.id, by_fact=not own)
    ids = tuple(each.headers[Header.EVENT_ID] for each in own)
    names = ", ".join(each.headers[Header.EVENT_TYPE] for each in own)
    return succeeded(command, Head.of(own[-1]), ids, names)


def _is_fact(message: StoredMessage) -> bool:
    headers = message.headers
    is_root = headers[Header.EVENT_ID] == headers[Header.CAUSATION_ID]
    return is_root or headers.get(COMMAND_DIGEST) == NO_COMMAND
