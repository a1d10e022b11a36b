"""The recovery: makes everything beside the log fit the log as it is now.

Each step can be repeated, and that the log fits is noted last: a recovery that was interrupted is
done again from the start.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from eventstore.client.client import Client
from eventstore.commands.consumer import worker_consumer
from eventstore.errors import RecoveryRefused
from eventstore.jetstream.api import find_consumer, stream_info
from eventstore.jetstream.key_value import KeyValue
from eventstore.projections.audit import forget_commands
from eventstore.projections.database import checkpoint
from eventstore.projections.database.database import Database
from eventstore.projections.feed.missing import publish_missing
from eventstore.projections.feed.position import FeedPoint, FeedPosition
from eventstore.projections.projection import Projection
from eventstore.projections.rebuild.rebuild import Rebuild, RebuildProgress
from eventstore.recovery.log_record import LogRecord
from eventstore.recovery.plan import LostOutcome, Progress, RecoveryPlan
from eventstore.store.snapshots.bucket import StoredSnapshots
from eventstore.store.store import EventStore


class RecoverySummary(Struct, frozen=True):
    """What was done."""

    outcomes: int
    snapshots: int
    published: int
    read_models: list[str]


async def recover(
    client: Client,
    store: EventStore,
    plan: RecoveryPlan,
    *,
    database: Database | None = None,
    projections: Sequence[Projection] = (),
    progress: Progress = lambda *_: None,
) -> RecoverySummary:
    """Carry a plan out, for a log that exists.

    `projections` are those in the `database`; without it, read models are left as they are, and are
    refused until they are rebuilt. Raises `RecoveryRefused`, before anything is changed, if command
    workers run, what `Rebuild.run` raises, and `ClientError`.
    """
    subjects = store.codec.subjects
    await check_stopped(client, store)
    await _remove_outcomes(KeyValue(client, subjects.outcome_bucket), plan.outcomes, progress)
    snapshots = StoredSnapshots(client, subjects)
    for lost in plan.snapshots:
        await snapshots.remove(lost.key, lost.revision)
    published = await _settle_feed(client, store, plan, progress)
    rebuilt: list[str] = []
    if database is not None:
        rebuilt = await _rebuild(store, database, plan, projections, progress)
    end = await store.log_end()
    await LogRecord(client, subjects).replace(await store.mark_at(end) if end else None)
    return RecoverySummary(len(plan.outcomes), len(plan.snapshots), published, rebuilt)


async def check_stopped(client: Client, store: EventStore) -> None:
    """Raise `RecoveryRefused` if a command worker runs: it could decide meanwhile."""
    spec = worker_consumer(store.codec)
    found = await find_consumer(client, spec.stream, spec.name)
    if found is not None and found.num_waiting:
        raise RecoveryRefused(
            "a service carries out commands now, and would decide on a log that is being recovered "
            "from: stop it first; one that has halted may run on, and starts by itself afterwards"
        )


async def _remove_outcomes(
    bucket: KeyValue, outcomes: Sequence[LostOutcome], progress: Progress
) -> None:
    """Delete outcomes that nobody has replaced since."""
    for count, each in enumerate(outcomes, 1):
        await bucket.update(each.command_id, None, each.revision)
        progress("removing outcomes", count, len(outcomes))


async def _settle_feed(
    client: Client, store: EventStore, plan: RecoveryPlan, progress: Progress
) -> int:
    """Publish what was passed over, and have the feed go on after what is published."""
    if not (plan.published or plan.unpublished or plan.noted or plan.is_missing):
        return 0
    total, subjects = len(plan.unpublished), store.codec.subjects
    done = iter(range(1, total + 1))

    def published(_: int) -> None:
        progress("publishing", next(done), total)

    count = await publish_missing(client, store, plan.unpublished, published)
    last = (await stream_info(client, subjects.event_stream)).state.last_seq
    position = FeedPosition(client, subjects)
    await position.save(FeedPoint(last, min(plan.published_until, await store.log_end())))
    await LogRecord(client, subjects).settle(last)
    return count


async def _rebuild(
    store: EventStore,
    database: Database,
    plan: RecoveryPlan,
    projections: Sequence[Projection],
    progress: Progress,
) -> list[str]:
    """Rebuild the read models of another history beside their rows, which they then replace."""
    outdated = {each.name for each in plan.read_models}
    wanted = [each for each in projections if each.name in outdated]
    names = [each.name for each in wanted]
    await database.transact(lambda connection: forget_commands(connection, plan.position))
    await database.transact(lambda connection: checkpoint.disown(connection, names))
    for each in wanted:
        await Rebuild(
            store, database, each, from_scratch=True, on_progress=_reporting(each.name, progress)
        ).run()
    return names


def _reporting(name: str, progress: Progress) -> Callable[[RebuildProgress], None]:
    def report(rebuilding: RebuildProgress) -> None:
        total = rebuilding.events + rebuilding.pending
        progress(f"{name}: {rebuilding.phase}", rebuilding.events, total)

    return report
