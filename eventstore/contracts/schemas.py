"""Whether one JSON Schema accepts all that another one describes.

Only what msgspec writes is understood: types, properties, items, unions, enumerations and the
constraints of numbers, texts and lengths. A keyword that differs and is not understood counts as a
difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from eventstore.contracts.contract import JsonSchema

_NOTES = {"title", "description", "default", "examples", "discriminator", "contentEncoding"}
"""Keywords that do not change what is valid."""

_LEAST = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_MOST = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_EQUAL = ("pattern", "format", "multipleOf", "const")


class Side:
    """A schema's definitions, to which its references lead."""

    def __init__(self, definitions: Mapping[str, JsonSchema]) -> None:
        self._definitions = definitions

    def resolved(self, schema: JsonSchema) -> JsonSchema:
        """The schema that a reference leads to; any other as it is."""
        while "$ref" in schema:
            schema = self._definitions[schema["$ref"].rpartition("/")[2]]
        return schema


class Comparison:
    """Finds what is valid by the schemas of a giver, and not by those of a taker.

    A giver that `writes_defaults` leaves out no field that has a default, as msgspec does, unless a
    class says `omit_defaults`.
    """

    def __init__(self, giver: Side, taker: Side, *, writes_defaults: bool = False) -> None:
        self._giver = giver
        self._taker = taker
        self._writes_defaults = writes_defaults
        self._open: list[tuple[str, str]] = []

    def problems(self, given: JsonSchema, taken: JsonSchema, where: str) -> Iterator[str]:
        """What the taker refuses of what is valid by `given`, a sentence for each place."""
        pair = (str(given.get("$ref")), str(taken.get("$ref")))
        if "None" not in pair:
            if pair in self._open:  # a type that contains itself
                return
            self._open.append(pair)
        yield from self._resolved(self._giver.resolved(given), self._taker.resolved(taken), where)
        if "None" not in pair:
            self._open.remove(pair)

    def _resolved(self, given: JsonSchema, taken: JsonSchema, where: str) -> Iterator[str]:
        if not taken.keys() - _NOTES:
            return
        if "anyOf" in given:
            for each in given["anyOf"]:
                yield from self.problems(each, taken, where)
        elif "anyOf" in taken:
            if not any(self._accepts(given, each, where) for each in taken["anyOf"]):
                yield f"{where}: {_shown(given)} is refused, which was valid"
        elif "enum" in given or "const" in given:
            yield from self._values(given, taken, where)
        else:
            yield from self._typed(given, taken, where)

    def _accepts(self, given: JsonSchema, taken: JsonSchema, where: str) -> bool:
        return next(self.problems(given, taken, where), None) is None

    def _values(self, given: JsonSchema, taken: JsonSchema, where: str) -> Iterator[str]:
        for value in given.get("enum", [given.get("const")]):
            if not _is_valid(value, taken):
                yield f"{where}: the value {value!r} is refused, which was valid"

    def _typed(self, given: JsonSchema, taken: JsonSchema, where: str) -> Iterator[str]:
        if "enum" in taken:
            yield f"{where}: only {taken['enum']!r} are valid, and any {_shown(given)} was"
            return
        old, new = given.get("type"), taken.get("type")
        if new is not None and old != new and not (old == "integer" and new == "number"):
            yield f"{where}: {_shown(given)} is refused, {_shown(taken)} is expected"
            return
        yield from _constraints(given, taken, where)
        yield from self._items(given, taken, where)
        if new == "object":
            yield from self._fields(given, taken, where)

    def _items(self, given: JsonSchema, taken: JsonSchema, where: str) -> Iterator[str]:
        for index, each in enumerate(taken.get("prefixItems", ())):
            before = given.get("prefixItems", [])
            one = before[index] if index < len(before) else given.get("items") or {}
            yield from self.problems(one, each, f"{where}[{index}]")
        if isinstance(taken.get("items"), dict):
            before = given.get("items")
            one = before if isinstance(before, dict) else {}
            if before is not False:
                yield from self.problems(one, taken["items"], f"{where}[]")

    def _fields(self, given: JsonSchema, taken: JsonSchema, where: str) -> Iterator[str]:
        old, new = given.get("properties", {}), taken.get("properties", {})
        always = set(given.get("required", ()))
        if self._writes_defaults:
            always |= {name for name, schema in old.items() if "default" in schema}
        for name in taken.get("required", ()):
            if name not in always:
                yield f"{where}.{name}: is required, and could be left out"
        further = taken.get("additionalProperties", True)
        for name, schema in old.items():
            if name in new:
                yield from self.problems(schema, new[name], f"{where}.{name}")
            elif further is False:
                yield f"{where}.{name}: is refused as unknown"
            elif isinstance(further, dict):
                yield from self.problems(schema, further, f"{where}.{name}")
        before = given.get("additionalProperties", True)
        if isinstance(further, dict) and before is not False:
            yield from self.problems({} if before is True else before, further, f"{where}.*")


def _constraints(given: JsonSchema, taken: JsonSchema, where: str) -> Iterator[str]:
    for names, narrower in ((_LEAST, _is_more), (_MOST, _is_less)):
        for name in names:
            if name in taken and narrower(taken[name], given.get(name)):
                yield f"{where}: {name} is {taken[name]}, and was {given.get(name, 'not there')}"
    for name in _EQUAL:
        if name in taken and taken[name] != given.get(name):
            yield f"{where}: {name} is {taken[name]!r}, and was {given.get(name, 'not there')!r}"


def _is_more(new: float, old: float | None) -> bool:
    return old is None or new > old


def _is_less(new: float, old: float | None) -> bool:
    return old is None or new < old


_OF_TYPE: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
}


def _is_valid(value: Any, taken: JsonSchema) -> bool:
    if "enum" in taken:
        return value in taken["enum"]
    if "const" in taken:
        return bool(value == taken["const"])
    kind = taken.get("type")
    return kind is None or (kind in _OF_TYPE and _OF_TYPE[kind](value))


def _shown(schema: JsonSchema) -> str:
    return str(schema.get("title") or schema.get("type") or schema.get("const") or "any value")
