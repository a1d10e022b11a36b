"""One message of the log in full, as it is stored: personal data in it stay encrypted."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from eventstore.console.desk import Desk
from eventstore.console.forms import whole_number
from eventstore.console.pages.endpoint import route
from eventstore.console.source import ANSWER_SECONDS
from eventstore.errors import QueryNotFound
from eventstore.jetstream.direct_get import DirectReader
from eventstore.jetstream.stored_message import StoredMessage


async def _show(request: Request, desk: Desk) -> Response:
    return desk.page(request, "event", message=await _message(request, desk))


async def _payload(request: Request, desk: Desk) -> Response:
    message = await _message(request, desk)
    return download(message.payload, f"event-{message.sequence}")


async def _message(request: Request, desk: Desk) -> StoredMessage:
    """The message at a position; raises `QueryNotFound`."""
    position = whole_number(request.path_params["position"], "position", least=1) or 0
    source = desk.source
    reader = DirectReader(source.client, source.subjects.log_stream, timeout=ANSWER_SECONDS)
    found = await reader.at(position)
    if found is None:
        raise QueryNotFound(f"the log has nothing at position {position}")
    return found


def download(payload: bytes, name: str) -> Response:
    """A payload as a file that no browser takes for a page."""
    disposition = {"Content-Disposition": f'attachment; filename="{name}.json"'}
    return Response(payload, media_type="application/octet-stream", headers=disposition)


ROUTES = [
    route("/events/{position}", _show),
    route("/events/{position}/payload", _payload),
]
