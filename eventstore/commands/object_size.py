"""The size of a decoded object in memory, with everything that only it refers to."""

from __future__ import annotations

import sys
from enum import Enum
from types import FunctionType, ModuleType
from typing import Any

import msgspec

_SHARED = (type(None), bool, type, Enum, FunctionType, ModuleType)
_LEAVES = (str, bytes, int, float, complex)
_SMALL_INTEGERS = range(-5, 257)  # of which the interpreter has one each
_ALIGNMENT = 16


def size_of(value: object) -> int:
    """Bytes, as the interpreter's allocator takes them.

    What other objects refer to as well, such as equal strings that were decoded once, counts in
    full. An object that is not made of the usual containers, structs and instances may have more.
    """
    size = 0
    seen: set[int] = set()
    left: list[Any] = [value]
    while left:
        each = left.pop()
        if isinstance(each, _SHARED) or id(each) in seen:
            continue
        if isinstance(each, int) and each in _SMALL_INTEGERS:
            continue
        size += allocated(each)
        if not isinstance(each, _LEAVES):
            seen.add(id(each))
            left += _parts(each)
    return size


def allocated(value: object) -> int:
    """The bytes of an object alone."""
    return sys.getsizeof(value, 64) + _ALIGNMENT - 1 & -_ALIGNMENT


def _parts(value: Any) -> list[Any]:
    """What an object refers to."""
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    if isinstance(value, msgspec.Struct):
        return [getattr(value, name) for name in value.__struct_fields__]
    slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    own = getattr(value, "__dict__", None)
    return [*(getattr(value, name, None) for name in slots), *([] if own is None else [own])]
