"""Evidence: what each part of a domain has seen of its log last, compared before anything begins.

Each part can be restored, or lose its end, apart from the others. What was seen last is enough: the
log only grows, so if it still has that, it has all before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress

from msgspec import Struct

from eventstore.client.client import Client
from eventstore.errors import FeedLost, LogDiverged, LogMissing, OtherLog, StreamMissing
from eventstore.jetstream.api import find_stream, stream_info
from eventstore.jetstream.direct_get import MAX_PAGE, DirectReader
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.jetstream.vocabulary import NatsHeader, bucket_stream, bucket_subject
from eventstore.messages.headers import Header, legal_value, position_of
from eventstore.messages.outcome import Outcome
from eventstore.messages.subjects import Subjects
from eventstore.projections.database import checkpoint
from eventstore.projections.database.checkpoint import Checkpoint
from eventstore.projections.database.database import Database
from eventstore.projections.feed.position import FeedPosition
from eventstore.projections.projection import Projection
from eventstore.recovery.log_record import LogRecord
from eventstore.store.log_mark import LogMark, diverged, find_differing
from eventstore.store.store import EventStore
from eventstore.subscribers.publication import PART_OF


class Evidence(Struct, frozen=True):
    """What a part has seen of the log last; `seen_by` is the part, for an error text."""

    seen_by: str
    mark: LogMark


async def read_checkpoints(
    database: Database, projections: Iterable[Projection]
) -> list[Checkpoint]:
    """The checkpoints of projections, of those that have one."""
    names = [each.name for each in projections]
    async with database.reading() as connection:
        return list((await connection.run_sync(checkpoint.read_checkpoints, names)).values())


def of_checkpoint(known: Checkpoint) -> Evidence:
    """What a read model has seen; of an earlier release, only its position is known."""
    mark = known.mark or LogMark.at(known.position)
    return Evidence(f"the read model of projection {known.name}", mark)


async def check_existence(client: Client, subjects: Subjects, known: Sequence[Checkpoint]) -> None:
    """Raise `LogMissing` if there is no log, though a read model was built from it."""
    last = max(known, key=lambda each: each.position, default=None)
    if last is None or not last.position or last.log is None:
        return
    if await find_stream(client, subjects.log_stream) is None:
        raise LogMissing(
            subjects.log_stream,
            f"the read model of projection {last.name} was built from it up to position "
            f"{last.position} (if its rows are another log's, name another database)",
        )


async def check_log(
    client: Client, store: EventStore, known: Sequence[Checkpoint], *, rebuilds: bool = False
) -> list[Checkpoint]:
    """Check that the log still has what was seen of it; reads a few messages of each part.

    `known` are the checkpoints of the read models. Returns those that are of another history, if
    they are rebuilt by themselves (`rebuilds`). Raises `LogDiverged` or `OtherLog` for the first
    part that has seen something else, `StreamMissing` and `ClientError`.
    """
    subjects = store.codec.subjects
    for each in await seen_by_streams(client, subjects):
        if (found := await differing(client, subjects, each)) is not None:
            raise found
    identity, others = await store.identity(), list[Checkpoint]()
    for known_one in known:
        error = await _differing_rows(client, subjects, known_one, identity)
        if error is not None and not rebuilds:
            raise error
        if error is not None:
            others.append(known_one)
    return others


async def _differing_rows(
    client: Client, subjects: Subjects, known: Checkpoint, identity: str
) -> LogDiverged | OtherLog | None:
    if known.log is not None and known.log != identity:
        return OtherLog(known, identity)
    return await differing(client, subjects, of_checkpoint(known))


async def differing(client: Client, subjects: Subjects, evidence: Evidence) -> LogDiverged | None:
    """The error of evidence that the log contradicts; None if it has what was seen."""
    reader = DirectReader(client, subjects.log_stream)
    found = await find_differing(client, reader, evidence.mark)
    if found is None:
        return None
    return diverged(subjects.log_stream, evidence.mark, found, evidence.seen_by)


async def seen_by_streams(client: Client, subjects: Subjects) -> list[Evidence]:
    """What is noted in the configuration bucket, was published last, and had an outcome last."""
    record = await LogRecord(client, subjects).read()
    found = [] if record is None else [Evidence("the domain's configuration bucket", record)]
    published = await _published_last(client, subjects, is_noted=record is not None)
    carried_out = await _carried_out_last(client, subjects)
    return [*found, *(each for each in (published, carried_out) if each is not None)]


async def _published_last(client: Client, subjects: Subjects, *, is_noted: bool) -> Evidence | None:
    """What the event stream has from the log last, after what a recovery has settled.

    And after the feed's saved position, if what was seen of the log then is noted, too.
    """
    try:
        settled = await LogRecord(client, subjects).settled()
        with suppress(FeedLost):
            saved = await FeedPosition(client, subjects).saved()
            if saved is not None and is_noted:
                settled = max(settled, saved.sequence)
        messages = await last_messages(client, subjects.event_stream, subjects.filter("event"))
    except StreamMissing:
        return None
    marks = [published_mark(each) for each in messages if each.sequence > settled]
    last = max((mark for mark in marks if mark), key=lambda mark: mark.position, default=None)
    return None if last is None else Evidence(f"stream {subjects.event_stream}", last)


def published_mark(message: StoredMessage) -> LogMark | None:
    """What a feed has seen of the log that has published a message; None for somebody else's."""
    headers = message.headers
    expected = headers.get(NatsHeader.EXPECTED_LAST_SEQUENCE)
    is_own = NatsHeader.BATCH_ID in headers or expected == str(message.sequence - 1)
    position = position_of(headers)
    event_id = headers.get(PART_OF) or legal_value(headers, Header.EVENT_ID)
    if not (is_own and position and event_id):
        return None
    return LogMark(position, event_id, legal_value(headers, Header.CHAIN) or "")


async def _carried_out_last(client: Client, subjects: Subjects) -> Evidence | None:
    """What the bucket of outcomes has from the log last."""
    bucket = subjects.outcome_bucket
    try:
        messages = await last_messages(client, bucket_stream(bucket), bucket_subject(bucket, "*"))
    except StreamMissing:
        return None
    marks = [outcome_mark(read_outcome(each)) for each in messages]
    last = max((mark for mark in marks if mark), key=lambda mark: mark.position, default=None)
    return None if last is None else Evidence(f"bucket {bucket}", last)


def read_outcome(message: StoredMessage) -> Outcome | None:
    """The outcome in a message of the bucket; None if it was deleted, or is something else."""
    return Outcome.of(message.subject.rpartition(".")[2], message.payload)


def outcome_mark(outcome: Outcome | None) -> LogMark | None:
    """The last event of a command; None if it has none."""
    if outcome is None or not outcome.event_ids or not outcome.position:
        return None
    return LogMark(outcome.position, outcome.event_ids[-1], "")


async def last_messages(client: Client, stream: str, subject: str) -> list[StoredMessage]:
    """The messages on a subject among the last 256 sequences of a stream."""
    last = (await stream_info(client, stream)).state.last_seq
    if not last:
        return []
    messages, _ = await DirectReader(client, stream).page(subject, max(0, last - MAX_PAGE))
    return messages
