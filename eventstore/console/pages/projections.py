"""Projections: where they are, how fast they move, and what they have parked."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from eventstore.console.desk import Desk
from eventstore.console.forms import whole_number, word
from eventstore.console.pages.endpoint import route
from eventstore.console.sampler import projection_in
from eventstore.console.source import ANSWER_SECONDS
from eventstore.errors import QueryNotFound
from eventstore.projections.control import ListParkedEvents, ProjectionList

PAGE = 50


async def _index(request: Request, desk: Desk) -> Response:
    found = await _list(desk)
    rates = {each.name: desk.sampler.rates(each.name) for each in found.projections}
    name = "projections_now" if word(request, "part") == "now" else "projections"
    return desk.page(request, name, found=found, rates=rates)


async def _show(request: Request, desk: Desk) -> Response:
    name = request.path_params["name"]
    found = await _list(desk)
    status = projection_in(await desk.sampler.newest(), name)
    if status is None:
        known = ", ".join(each.name for each in found.projections)
        raise QueryNotFound(f"there is no projection {name[:80]!r}; there are {known}")
    after = whole_number(word(request, "after"), "after") or 0
    query = ListParkedEvents(projection=name, after=after, limit=PAGE)
    parked = (await desk.source.queries.ask(query, timeout=ANSWER_SECONDS)).data
    return desk.page(
        request,
        "projection_now" if word(request, "part") == "now" else "projection",
        status=status,
        rates=desk.sampler.rates(name),
        problem=found.problem,
        failed_rebuild=found.failed_rebuilds.get(name),
        parked=parked,
        next=parked[-1].position if len(parked) == PAGE else None,
    )


async def _list(desk: Desk) -> ProjectionList:
    """The projections, by a new sample; raises why there is none."""
    sample = await desk.sampler.sample()
    if sample.projections is not None:
        return sample.projections
    raise sample.problem or QueryNotFound("no service answers for its projections")


ROUTES = [route("/projections", _index), route("/projections/{name}", _show)]
