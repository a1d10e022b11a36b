"""The working set of a verification: the state of each aggregate, and all ids, on disk.

An unnamed temporary SQLite database: its file is created only when the page cache is full, no other
process can open it, and it is deleted with this process, however that ends.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from eventstore.errors import InvalidSubject
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.messages.headers import Header
from eventstore.messages.subjects import Subjects
from eventstore.store.chain_links import GENESIS_LINKS, LinkCheck, Links, Problem, follow

_CACHE_KIB = 32 * 1024
_decode_links = msgspec.json.Decoder(Links).decode


class AggregateState(msgspec.Struct):
    """The chain links that an aggregate's next event may follow, and whether it has a finding."""

    links: Links = GENESIS_LINKS
    broken: bool = False
    is_new: bool = True

    def follow(self, message: StoredMessage, subjects: Subjects) -> LinkCheck:
        """Check the next message against the chain; any other subject than the log's is foreign."""
        try:
            subjects.parse_log(message.subject)
        except InvalidSubject as error:
            return LinkCheck(self.links, Problem("foreign", str(error)))
        result = follow(self.links, message)
        self.links = result.links
        return result


class WorkingSet:
    """The aggregates and the ids so far; a context manager."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.executescript(
            f"""
            PRAGMA cache_size = -{_CACHE_KIB};
            PRAGMA journal_mode = OFF;
            PRAGMA synchronous = OFF;
            PRAGMA temp_store = FILE;
            CREATE TABLE aggregate (subject TEXT PRIMARY KEY, links BLOB, broken INTEGER)
                WITHOUT ROWID;
            CREATE TABLE event_id (id BLOB PRIMARY KEY, position INTEGER) WITHOUT ROWID;
            BEGIN;
            """
        )

    def __enter__(self) -> WorkingSet:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def aggregates(self, subjects: Iterable[str]) -> dict[str, AggregateState]:
        """The states of these aggregates, including new ones."""
        states = {subject: AggregateState() for subject in subjects}
        rows = self._database.execute(
            f"SELECT subject, links, broken FROM aggregate "  # noqa: S608
            f"WHERE subject IN ({_placeholders(states)})",
            list(states),
        )
        for subject, links, broken in rows:
            states[subject] = AggregateState(_decode_links(links), bool(broken), is_new=False)
        return states

    def store(self, aggregates: Mapping[str, AggregateState]) -> None:
        """Store the states."""
        self._database.executemany(
            "INSERT OR REPLACE INTO aggregate VALUES (?, ?, ?)",
            [
                (subject, msgspec.json.encode(aggregate.links), aggregate.broken)
                for subject, aggregate in aggregates.items()
            ],
        )

    def repeats(self, messages: Sequence[StoredMessage]) -> dict[int, int]:
        """Add the events' ids; the positions that repeat an id, each with that of the first."""
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
                f"SELECT id, position FROM event_id WHERE id IN ({_placeholders(rows)})",  # noqa: S608
                [key for key, _ in rows],
            )
        )
        return {position: first[key] for key, position in rows if first[key] != position}


def _placeholders(values: Iterable[object]) -> str:
    return ", ".join("?" for _ in values)


def _key(event_id: str) -> bytes:
    """The 16 bytes of a UUID, or any other text as it is."""
    try:
        key = bytes.fromhex(event_id.replace("-", ""))
    except ValueError:
        return event_id.encode()
    return key if len(key) == 16 else event_id.encode()
