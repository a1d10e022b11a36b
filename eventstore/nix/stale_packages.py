"""When the inputs of a flake change, the packages that were built from it are marked stale."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from eventstore import Client, CommandClient, EventSubscriber, RecordedEvent
from eventstore.messages import Codec
from eventstore.nix import FlakeInputAdded, FlakeInputRemoved, FlakeUpdated, MarkPackageStale

__all__ = ["BuildsOf", "stale_packages"]

BuildsOf = Callable[[str, int], Awaitable[Mapping[str, int]]]
"""Tells, for a flake's id and a position of the log, which packages were built from the flake when
the log was there: their ids, and the number of each one's last build."""

_NAME = "stale-packages"
_AT_ONCE = 16
_ATTEMPTS = 20  # over some minutes, in which a read model may catch up


def stale_packages(
    client: Client, codec: Codec, commands: CommandClient, builds_of: BuildsOf
) -> EventSubscriber:
    """The process, to be run by any number of services; it needs the feed.

    Its commands are caused by the flake's event and belong to that story; whoever has to handle
    the event again, after a crash, sends the same commands, which are carried out once. A package
    that is built again meanwhile is not marked. An event for which `builds_of` raises is tried for
    some minutes, and then parked.
    """
    process = EventSubscriber(
        client, codec, _NAME, ordered=False, in_flight=_AT_ONCE, attempts=_ATTEMPTS
    )

    @process.handles
    async def inputs_changed(
        event: FlakeInputAdded | FlakeInputRemoved | FlakeUpdated, recorded: RecordedEvent
    ) -> None:
        inputs, what = _change(event)
        reason = f"flake {recorded.aggregate_id}: {', '.join(inputs)} {what}"
        builds = await builds_of(recorded.aggregate_id, recorded.position)
        for package_id, build in sorted(builds.items()):
            command = MarkPackageStale(reason=reason, inputs=inputs, build=build)
            await commands.send(command, package_id)

    return process


def _change(event: FlakeInputAdded | FlakeInputRemoved | FlakeUpdated) -> tuple[list[str], str]:
    match event:
        case FlakeInputAdded(name=name):
            return [name], "added"
        case FlakeInputRemoved(name=name):
            return [name], "removed"
        case FlakeUpdated(inputs=inputs):
            return inputs, "locked anew"
