"""What a verification has to remember of each aggregate and each id, out of memory's way.

SQLite's own kind of temporary file: it is made only when its page cache is full, nobody else can
open it, and it is gone with this process, however that ends.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType

import msgspec

from eventstore.jetstream.direct_get import StoredMessage
from eventstore.messages.headers import Header
from eventstore.store.chain_links import GENESIS_LINKS, Link, Links

__all__ = ["Aggregate", "WorkingSet"]

_CACHE_KIB = 32 * 1024


class Aggregate(msgspec.Struct):
    """What is known of an aggregate: what its next event may follow, and whether it has broken."""

    links: Links = GENESIS_LINKS
    broken: bool = False
    is_new: bool = True


class WorkingSet:
    """The aggregates and the ids that were seen; a context manager."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.executescript(
            f"""
            PRAGMA cache_size = -{_CACHE_KIB};
            PRAGMA journal_mode = OFF;
            PRAGMA synchronous = OFF;
            PRAGMA temp_store = FILE;
            CREATE TABLE aggregate (subject TEXT PRIMARY KEY, links TEXT, broken INTEGER)
                WITHOUT ROWID;
            CREATE TABLE event_id (id BLOB PRIMARY KEY, position INTEGER) WITHOUT ROWID;
            BEGIN;
            """
        )

    def __enter__(self) -> WorkingSet:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._database.close()

    def aggregates(self, subjects: Iterable[str]) -> dict[str, Aggregate]:
        """What is known of these aggregates, also of those that are new."""
        found = {subject: Aggregate() for subject in subjects}
        rows = self._database.execute(
            f"SELECT subject, links, broken FROM aggregate WHERE subject IN ({_places(found)})",  # noqa: S608
            list(found),
        )
        for subject, links, broken in rows:
            found[subject] = Aggregate(_links(links), bool(broken), is_new=False)
        return found

    def keep(self, aggregates: Mapping[str, Aggregate]) -> None:
        """Remember what is known now."""
        self._database.executemany(
            "INSERT OR REPLACE INTO aggregate VALUES (?, ?, ?)",
            [
                (subject, _text(aggregate.links), aggregate.broken)
                for subject, aggregate in aggregates.items()
            ],
        )

    def repeats(self, messages: Sequence[StoredMessage]) -> dict[int, int]:
        """Take note of the events' ids; which positions repeat an id, and where it stood first."""
        rows = [
            (_key(message.headers[Header.EVENT_ID]), message.sequence)
            for message in messages
            if Header.EVENT_ID in message.headers
        ]
        added = self._database.executemany("INSERT OR IGNORE INTO event_id VALUES (?, ?)", rows)
        if added.rowcount == len(rows):
            return {}
        first = dict(
            self._database.execute(
                f"SELECT id, position FROM event_id WHERE id IN ({_places(rows)})",  # noqa: S608
                [key for key, _ in rows],
            )
        )
        return {position: first[key] for key, position in rows if first[key] != position}


def _places(values: Iterable[object]) -> str:
    return ", ".join("?" for _ in values)


def _key(event_id: str) -> bytes:
    """A UUID's 16 bytes, and what is none as it is."""
    try:
        key = bytes.fromhex(event_id.replace("-", ""))
    except ValueError:
        return event_id.encode()
    return key if len(key) == 16 else event_id.encode()


def _text(links: Links) -> str:
    every = (links.head, *links.guesses)
    return " ".join([f"{link.version}:{link.chain}:{link.position}" for link in every])


def _links(text: str) -> Links:
    fields = (link.split(":") for link in text.split(" "))
    head, *guesses = (Link(int(version), chain, int(at)) for version, chain, at in fields)
    return Links(head, tuple(guesses))
