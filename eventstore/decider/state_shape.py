"""The shape of a state: a hash over all of its type that a snapshot's decoding depends on.

Field names, types, defaults and members, at every depth: a type that differs in one of them would
decode a snapshot to another state, often without an error.
"""

from __future__ import annotations

import enum
import hashlib
from functools import lru_cache
from typing import Any, get_origin

import msgspec
from msgspec import Struct
from msgspec.inspect import StructType, Type, type_info


@lru_cache(maxsize=1_000)
def check_shape(state: Any) -> None:
    """Raise what encoding, decoding or describing this type of state raises."""
    msgspec.json.schema(state)
    msgspec.msgpack.Decoder(state)
    shape_of(state)


def shape_of(state: type[Any]) -> str:
    """32 hexadecimal digits, the same in every process that has the same type."""
    described = msgspec.json.encode(_described(type_info(state), set()))
    return hashlib.sha256(described).hexdigest()[:32]


def _described(node: Any, seen: set[Any]) -> Any:
    """A type as lists and texts; `seen` are the classes that were described before."""
    if isinstance(node, Type) and hasattr(node, "fields"):
        cls = getattr(node, "cls", None)
        if cls in seen:
            return ["again", _stable(cls)]
        seen.add(cls)
    if isinstance(node, Struct):
        parts = [[name, _part(node, name, seen)] for name in node.__struct_fields__]
        return [type(node).__name__, *parts, *_configuration(node)]
    if isinstance(node, tuple):
        return [_described(each, seen) for each in node]
    return _stable(node)


def _part(node: Struct, name: str, seen: set[Any]) -> Any:
    value = getattr(node, name)
    if name == "default_factory" and callable(value):
        return _product(value)
    return _stable(value) if name == "default" else _described(value, seen)


def _configuration(node: Struct) -> list[Any]:
    if not isinstance(node, StructType):
        return []
    cls: Any = get_origin(node.cls) or node.cls  # that of a Box[int] is Box
    return [repr(cls.__struct_config__.omit_defaults)]


def _product(factory: Any) -> Any:
    """The factory's name, and its product if that is always the same."""
    name = getattr(factory, "__qualname__", type(factory).__qualname__)
    one, other = _stable(factory()), _stable(factory())
    return [name, one if one == other else None]


def _stable(value: Any) -> Any:
    """A text, or lists of texts, that is the same for the same value in every process."""
    if isinstance(value, enum.Enum):
        return [type(value).__qualname__, value.name, _stable(value.value)]
    if isinstance(value, type):
        members = value if issubclass(value, enum.Enum) else ()
        return [value.__qualname__, *map(_stable, members)]
    kind = type(value).__qualname__
    if isinstance(value, Struct):
        return [kind, *((name, _stable(getattr(value, name))) for name in value.__struct_fields__)]
    if isinstance(value, set | frozenset):
        return [kind, *sorted(map(_stable, value), key=repr)]
    if isinstance(value, list | tuple):
        return [kind, *map(_stable, value)]
    if isinstance(value, dict):
        return [kind, *([_stable(key), _stable(each)] for key, each in value.items())]
    # An object without a text of its own shows its address, which differs from run to run.
    has_text = getattr(type(value), "__repr__", None) is not object.__repr__
    return [kind, repr(value)] if has_text else kind
