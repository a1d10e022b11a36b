"""The schemas of queries in the NATS micro protocol."""

from __future__ import annotations

import json

import msgspec
from msgspec import Struct

from eventstore import Query
from eventstore.contracts import Contract, describe, query_metadata
from projections import app as shipped
from tests.unit.contracts.test_contracts import domain


class Folder(Struct):
    name: str
    inside: list[Folder] = []


class GetFolder(Query[Folder], subject="order.folder"):
    id: str


def contract() -> Contract:
    return describe(domain(), [GetFolder])


def test_each_schema_stands_alone() -> None:
    ((subject, found),) = query_metadata(contract()).items()
    assert subject == "shop.query.order.folder"
    assert found["request_type"] == "GetFolder"
    request, response = (json.loads(found[f"{each}_schema"]) for each in ("request", "response"))
    assert request["definitions"].keys() == {"GetFolder"}
    assert response["definitions"].keys() == {"Folder"}, "which contains itself"


def test_the_shipped_queries_fit_into_one_message() -> None:
    described = query_metadata(describe(shipped.domain, shipped.query_types))
    assert len(described) == len(shipped.query_types)
    assert all("response_schema" in each for each in described.values())


def test_schemas_that_do_not_fit_are_left_out() -> None:
    large = msgspec.structs.replace(
        contract(),
        definitions={name: {"description": "x" * 100_000} for name in ("GetFolder", "Folder")},
    )
    assert list(query_metadata(large).values()) == [{"request_type": "GetFolder"}]
