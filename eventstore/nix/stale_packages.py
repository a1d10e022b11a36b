"""Marks the packages that were built from a flake as stale when its inputs change."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from eventstore import Client, CommandClient, EventSubscriber, RecordedEvent, Subscriber
from eventstore.messages import Codec
from eventstore.nix import FlakeInputAdded, FlakeInputRemoved, FlakeUpdated, MarkPackageStale
from eventstore.telemetry import NO_TELEMETRY, Telemetry

__all__ = ["BuildsOf", "stale_packages", "subscriber"]

BuildsOf = Callable[[str, int], Awaitable[Mapping[str, int]]]
"""Returns the packages that were built from a flake, by its id, as of a position of the log: their
ids, and the number of each one's last build."""

subscriber = Subscriber(
    "stale-packages",
    ordered=False,
    max_concurrency=16,
    max_attempts=20,  # over some minutes, for a read model to catch up
)
"""The declaration, which any number of services may run; it needs the feed, and as resources
`commands`, a `CommandClient`, and `builds_of`, a `BuildsOf`.

Its commands are caused by the flake's event and have its correlation id. If the event is
redelivered, after a crash for example, the same commands are sent, and carried out once. A package
that is rebuilt meanwhile is not marked. An event for which `builds_of` raises is retried for some
minutes, then parked."""


@subscriber.handles
async def inputs_changed(
    event: FlakeInputAdded | FlakeInputRemoved | FlakeUpdated,
    recorded: RecordedEvent,
    *,
    commands: CommandClient,
    builds_of: BuildsOf,
) -> None:
    """Mark the packages that were built from the flake before its inputs changed."""
    inputs, change = _change(event)
    reason = f"flake {recorded.aggregate_id}: {', '.join(inputs)} {change}"
    builds = await builds_of(recorded.aggregate_id, recorded.position)
    for package_id, build in sorted(builds.items()):
        command = MarkPackageStale(reason=reason, inputs=inputs, build=build)
        await commands.send(command, package_id)


def stale_packages(
    client: Client,
    codec: Codec,
    commands: CommandClient,
    builds_of: BuildsOf,
    *,
    telemetry: Telemetry = NO_TELEMETRY,
) -> EventSubscriber:
    """The subscriber, bound to a client and to what its handler needs."""
    resources = {"commands": commands, "builds_of": builds_of}
    return EventSubscriber(client, codec, subscriber, resources=resources, telemetry=telemetry)


def _change(event: FlakeInputAdded | FlakeInputRemoved | FlakeUpdated) -> tuple[list[str], str]:
    match event:
        case FlakeInputAdded(name=name):
            return [name], "added"
        case FlakeInputRemoved(name=name):
            return [name], "removed"
        case FlakeUpdated(inputs=inputs):
            return inputs, "locked anew"
