"""The contract of an application: every message that goes in or out, with its JSON Schema."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal, Self

import msgspec
from msgspec import Struct

from eventstore.decider.domain import Domain
from eventstore.errors import ConfigurationError
from eventstore.messages.queries import Query
from eventstore.messages.types import Message
from eventstore.messages.undecodable import UNDECODABLE, text_of

FORMAT = 1
"""The version of the format of a contract's JSON."""

MessageKind = Literal["command", "event", "query"]
JsonSchema = dict[str, Any]

_SUBJECTS: dict[MessageKind, Literal["cmd", "event", "query"]] = {
    "command": "cmd",
    "event": "event",
    "query": "query",
}


_DEFINITIONS = "#/definitions/"


class MessageContract(Struct, frozen=True, kw_only=True):
    """One command, event or query: its type's name, its subject and the schema of its payload.

    `schema_version` is the newest, `since` the oldest that is read. `answer` is the schema of a
    query's answer. References in schemas are to the definitions of the contract.
    """

    kind: MessageKind
    name: str
    subject: str
    schema: JsonSchema
    schema_version: int = 1
    since: int = 1
    creates: bool = False
    answer: JsonSchema | None = None


class Contract(Struct, frozen=True, kw_only=True):
    """All messages of an application.

    `definitions` has the schemas that others refer to, by name. `upcast` names the earlier versions
    of events that an upcaster reads, such as `"FlakeMoved 1"`.
    """

    format: int = FORMAT
    domain: str
    version: str
    description: str = ""
    messages: tuple[MessageContract, ...]
    upcast: tuple[str, ...] = ()
    definitions: dict[str, JsonSchema] = {}

    def of_kind(self, kind: MessageKind) -> dict[str, MessageContract]:
        """The messages of one kind, by the name that identifies them to others.

        That of an event is its type's name, that of a command and of a query its subject.
        """
        found = (each for each in self.messages if each.kind == kind)
        return {each.name if kind == "event" else each.subject: each for each in found}

    def to_json(self) -> bytes:
        """The contract as indented JSON, which ends with a line break."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Read the result of `to_json`; raises `ConfigurationError` for anything else."""
        try:
            contract = msgspec.json.decode(data, type=cls)
        except UNDECODABLE as error:
            raise ConfigurationError(f"it is not a contract: {text_of(error)}") from error
        if contract.format != FORMAT:
            raise ConfigurationError(
                f"the contract has format {contract.format}, and this release reads {FORMAT}"
            )
        parts = [(each.schema, each.answer) for each in contract.messages]
        missing = {*references([*map(list, parts), contract.definitions])} - {*contract.definitions}
        if missing:
            raise ConfigurationError(
                f"it is not a contract: no definition of {', '.join(sorted(missing))}"
            )
        return contract


def references(value: Any) -> Iterator[str]:
    """The names of the definitions that a schema refers to, wherever in it."""
    if isinstance(value, dict):
        reference = value.get("$ref")
        if isinstance(reference, str) and reference.startswith(_DEFINITIONS):
            yield reference.removeprefix(_DEFINITIONS)
        for each in value.values():
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


def describe(
    domain: Domain,
    queries: Iterable[type[Query[Any]]] = (),
    *,
    version: str = "0.0.0",
    description: str = "",
) -> Contract:
    """The contract of a domain's commands and events, and of queries.

    Raises `ConfigurationError` for a type that JSON Schema cannot describe.
    """
    codec = domain.codec
    asked = tuple(queries)
    types: list[tuple[MessageKind, type[Message]]] = [
        *(("command", each) for each in codec.command_types),
        *(("event", each) for each in codec.event_types),
        *(("query", each) for each in asked),
    ]
    described = [cls for _, cls in types] + [each.__answer__ for each in asked]
    try:
        schemas, definitions = msgspec.json.schema_components(
            described, ref_template="#/definitions/{name}"
        )
    except TypeError as error:
        raise ConfigurationError(f"domain {domain.name} has no schema: {error}") from error
    answers = iter(schemas[len(types) :])
    return Contract(
        domain=domain.name,
        version=version,
        description=description,
        messages=tuple(
            _message(domain, kind, cls, schema, next(answers) if kind == "query" else None)
            for (kind, cls), schema in zip(types, schemas, strict=False)
        ),
        upcast=tuple(sorted(f"{name} {number}" for name, number in codec.upcasting.sources)),
        definitions=definitions,
    )


def _message(
    domain: Domain,
    kind: MessageKind,
    cls: type[Message],
    schema: JsonSchema,
    answer: JsonSchema | None,
) -> MessageContract:
    subjects = domain.codec.subjects
    return MessageContract(
        kind=kind,
        name=getattr(cls, "__label__", cls.__name__),
        subject=subjects.filter(_SUBJECTS[kind], cls.__aggregate__, cls.__action__),
        schema=schema,
        schema_version=cls.__schema_version__,
        since=cls.__since__,
        creates=kind == "command" and bool(getattr(cls, "__creates__", False)),
        answer=answer,
    )
