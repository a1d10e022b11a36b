"""Schemas: what the domain's commands, events and queries look like."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import msgspec
from msgspec import Struct
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from eventstore.config import Settings
from eventstore.console.desk import Desk
from eventstore.console.forms import word
from eventstore.console.pages.endpoint import route
from eventstore.contracts import Contract, asyncapi, describe


class Field(Struct, frozen=True, kw_only=True):
    """A field of a message."""

    name: str
    type: str
    is_required: bool
    is_personal: bool
    about: str


async def _index(request: Request, desk: Desk) -> Response:
    contract = _contract(desk)
    name = word(request, "name")
    chosen = next((each for each in contract.messages if each.name == name), None)
    if name is not None and chosen is None:
        raise HTTPException(404, f"There is no command, event or query {name[:80]!r}.")
    return desk.page(
        request,
        "schemas",
        contract=contract,
        chosen=chosen,
        fields=[] if chosen is None else list(_fields(desk, contract, chosen.name, chosen.schema)),
    )


async def _document(request: Request, desk: Desk) -> Response:
    contract = _contract(desk)
    forms: Mapping[str, Callable[[], bytes]] = {
        "contract.json": contract.to_json,
        "asyncapi.json": partial(_asyncapi, contract),
    }
    name = request.path_params["document"]
    if name not in forms:
        raise HTTPException(404, f"There are {' and '.join(forms)}, not {name[:80]!r}.")
    return Response(forms[name](), media_type="application/json")


def _asyncapi(contract: Contract) -> bytes:
    return msgspec.json.format(msgspec.json.encode(asyncapi(contract)), indent=2)


def _contract(desk: Desk) -> Contract:
    own = desk.app.identity(Settings())
    return describe(
        desk.domain, desk.app.query_types, version=own.version, description=own.description
    )


def _fields(
    desk: Desk, contract: Contract, name: str, schema: Mapping[str, Any]
) -> Iterator[Field]:
    resolved = _resolved(contract, schema)
    required = resolved.get("required", ())
    personal = {each.key for each in desk.personal.get(name, ())}
    for field, each in resolved.get("properties", {}).items():
        yield Field(
            name=field,
            type=_type(each),
            is_required=field in required,
            is_personal=field in personal,
            about=str(each.get("description", "")),
        )


def _resolved(contract: Contract, schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema that a reference leads to; any other as it is."""
    if "$ref" not in schema:
        return schema
    return contract.definitions.get(str(schema["$ref"]).rpartition("/")[2], {})


def _type(schema: Mapping[str, Any]) -> str:
    """A type in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"])
    if "enum" in schema:
        return "one of " + ", ".join(map(str, schema["enum"]))
    kind = str(schema.get("type", "any value"))
    if kind == "array":
        return f"list of {_type(schema.get('items') or {})}"
    return " ".join(filter(None, (kind, schema.get("format", ""))))


ROUTES = [route("/schemas", _index), route("/schemas/{document}", _document)]
