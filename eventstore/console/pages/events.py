"""One message of the log in full, as it is stored: personal data in it is encrypted."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from eventstore.console.desk import Desk
from eventstore.console.forms import whole_number
from eventstore.console.pages.endpoint import route, visitor_of
from eventstore.console.source import ANSWER_SECONDS
from eventstore.errors import QueryNotFound
from eventstore.jetstream.direct_get import DirectReader
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.messages.headers import Header


async def _show(request: Request, desk: Desk) -> Response:
    message = await _message(request, desk)
    return desk.page(
        request, "event", message=message, is_hidden=_is_hidden(request, desk, message)
    )


async def _payload(request: Request, desk: Desk) -> Response:
    message = await _message(request, desk)
    if _is_hidden(request, desk, message):
        raise HTTPException(403, "It may have personal data, which you may not see.")
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


def _is_hidden(request: Request, desk: Desk, message: StoredMessage) -> bool:
    """Whether a payload may have personal data that are not encrypted, and the visitor no right.

    A field is encrypted only since it is marked.
    """
    event_type = message.headers.get(Header.EVENT_TYPE, "")
    is_personal = bool(desk.personal.get(event_type, desk.has_personal))
    return is_personal and not visitor_of(request).sees_personal


def download(payload: bytes, name: str) -> Response:
    """A payload as a file that no browser takes for a page."""
    disposition = {"Content-Disposition": f'attachment; filename="{name}.json"'}
    return Response(payload, media_type="application/octet-stream", headers=disposition)


ROUTES = [
    route("/events/{position}", _show),
    route("/events/{position}/payload", _payload),
]
