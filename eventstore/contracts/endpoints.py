"""The schemas of queries as metadata of endpoints in the NATS micro protocol (ADR-32)."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from eventstore.contracts.contract import Contract, JsonSchema, references

_MAX_BYTES = 200_000  # all of it is in one message


def query_metadata(contract: Contract) -> dict[str, dict[str, str]]:
    """The metadata of each query's endpoint, by its subject.

    `request_type` is the query's name; `request_schema` and `response_schema` are JSON Schemas that
    stand alone, left out if all together are larger than 200,000 bytes. Metadata in NATS micro are
    text, and public.
    """
    queries = contract.of_kind("query")
    names = {subject: {"request_type": each.name} for subject, each in queries.items()}
    whole = {
        subject: {
            **names[subject],
            "request_schema": _alone(each.schema, contract.definitions),
            "response_schema": _alone(each.answer or {}, contract.definitions),
        }
        for subject, each in queries.items()
    }
    size = sum(len(text) for each in whole.values() for text in each.values())
    return whole if size <= _MAX_BYTES else names


def _alone(schema: JsonSchema, definitions: Mapping[str, JsonSchema]) -> str:
    """The schema as JSON, with the definitions that it refers to."""
    needed: dict[str, JsonSchema] = {}
    waiting = [schema]
    while waiting:
        for name in references(waiting.pop()):
            if name not in needed:
                needed[name] = definitions[name]
                waiting.append(definitions[name])
    whole = {**schema, "definitions": needed} if needed else schema
    return msgspec.json.encode(whole).decode()
