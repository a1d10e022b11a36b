"""`eventstore subscriber reset`: set a subscriber back, or forward."""

from __future__ import annotations

from typing import Annotated

import typer

from eventstore.application.consumers import declared_consumers
from eventstore.cli.options import ClientSession, Json, Yes
from eventstore.cli.output.terminal import say, say_json
from eventstore.cli.subscriber.show import SubscriberName
from eventstore.messages.text import counted
from eventstore.subscribers.positions import Start
from eventstore.subscribers.status import ResetPlan, Subscribers


async def reset(
    session: ClientSession,
    name: SubscriberName,
    after: Annotated[
        int | None,
        typer.Option(
            "--after", metavar="POSITION", min=0, help="Deliver the events after this position."
        ),
    ] = None,
    new: Annotated[
        bool, typer.Option("--new", help="Deliver those that are acknowledged from now on.")
    ] = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Set a subscriber back, or forward.

    Without --after or --new it begins with the first event that the event stream still has. Its
    processes may run meanwhile, and go on from there. Handlers are called again for what they have
    handled: their commands have the same ids as then, and are carried out once; other effects are
    repeated. Parked events stay parked. A consumer that was deleted is created again as the
    application declares it.
    """
    if new and after is not None:
        raise typer.BadParameter("give --after or --new, not both", param_hint="--new")
    start: Start = "new" if new else "all" if after is None else after
    async with session.connect() as client:
        declared = declared_consumers(session.app, session.subjects)
        subscribers = Subscribers(client, session.subjects, declared)
        plan = await subscribers.plan_reset(name, start)
        if not yes:
            typer.confirm(f"{_planned(plan)}?", abort=True, err=json)
        target = f"{plan.name} to {plan.after}"
        async with session.recorded(client, "subscriber-reset", target):
            await subscribers.reset(plan)
    if json:
        facts = {"after": plan.after, "events": plan.events, "again": plan.again}
        say_json({"name": plan.name, "was": plan.position, **facts})
    else:
        say(f"reset: {_planned(plan)}")


def _planned(plan: ResetPlan) -> str:
    events = counted(plan.events, "event")
    if plan.position is None:
        return (
            f"{plan.name}, whose consumer was deleted, begins after position {plan.after:,}, "
            f"delivers {events}, also those of them that were handled before"
        )
    return (
        f"{plan.name} from position {plan.position:,} to {plan.after:,}, "
        f"delivers {events}, {plan.again:,} of them again"
    )
