"""Parked messages: why they are parked, and what they are."""

from __future__ import annotations

from contextlib import aclosing

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from eventstore.console.desk import Desk
from eventstore.console.forms import whole_number, word
from eventstore.console.pages.endpoint import route, visitor_of
from eventstore.console.pages.events import download
from eventstore.parking.messages import ParkedMessage, UnreadableMessage

PAGE = 50


async def _index(request: Request, desk: Desk) -> Response:
    after = whole_number(word(request, "after"), "after") or 0
    found: list[ParkedMessage | UnreadableMessage] = []
    reading = desk.source.parked.read(after, aggregate=word(request, "aggregate"))
    async with aclosing(reading) as messages:
        async for message in messages:
            found.append(message)
            if len(found) > PAGE:
                break
    return desk.page(
        request,
        "parked",
        messages=found[:PAGE],
        after=after,
        next=found[PAGE - 1].sequence if len(found) > PAGE else None,
        aggregate=word(request, "aggregate"),
        is_hidden=is_hidden(request, desk),
    )


async def _show(request: Request, desk: Desk) -> Response:
    message = await _message(request, desk)
    is_readable = isinstance(message, ParkedMessage)
    return desk.page(
        request,
        "parked_message",
        message=message,
        record=message.record if isinstance(message, ParkedMessage) else None,
        is_readable=is_readable,
        original=message.record if isinstance(message, ParkedMessage) else message,
        is_hidden=is_hidden(request, desk),
    )


async def _payload(request: Request, desk: Desk) -> Response:
    if is_hidden(request, desk):
        raise HTTPException(403, "Payloads may have personal data, which you may not see.")
    message = await _message(request, desk)
    original = message.record if isinstance(message, ParkedMessage) else message
    return download(original.payload, f"parked-{message.sequence}")


async def _message(request: Request, desk: Desk) -> ParkedMessage | UnreadableMessage:
    sequence = whole_number(request.path_params["sequence"], "The number", least=1) or 0
    return await desk.source.parked.find(sequence)


def is_hidden(request: Request, desk: Desk) -> bool:
    """Whether the visitor may not see payloads and reasons, in which nothing is encrypted."""
    return desk.has_personal and not visitor_of(request).sees_personal


ROUTES = [
    route("/parked", _index),
    route("/parked/{sequence}", _show),
    route("/parked/{sequence}/payload", _payload),
]
