"""Round-trip fidelity: whether an encoded value is decoded to an equivalent one.

`==` does not show that: a `Counter` equals a `dict`, `1` equals `True`, and times in two zones are
equal though their hours and days are not. Here types and offsets count, at every depth.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import uuid
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import chain
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import astuple

from eventstore.messages.functions import leaves
from eventstore.messages.text import counted

# Equal values of one of these types are interchangeable.
_PLAIN = frozenset({str, int, bool, type(None), bytes, bytearray, date, timedelta, uuid.UUID})
_JSON_SCALARS = (str, int, float, bool, type(None))


class Difference(Struct, frozen=True):
    """Where two values differ, and how, without the values themselves, which may be private.

    `path` is made of `.field`, `[index]`, and `[...]` for an item of a mapping or a set.
    """

    path: str
    problem: str

    def __str__(self) -> str:
        return f"`${self.path}` {self.problem}"

    def within(self, step: str) -> Difference:
        """The same difference as seen from one level up."""
        return Difference(f"{step}{self.path}", self.problem)


def difference(written: Any, read: Any, *, exact: bool = False) -> Difference | None:
    """The first difference between a value and its decoded form; None if there is none.

    Unless `exact`, a value may be converted to the declared type without a loss: an int to a float,
    a list to a tuple, a text to a time; not so in fields that declare no type, such as those of
    type `Any`. A time zone then counts by its offset alone. Raises `RecursionError` for values that
    are nested too deeply, and what the values' own `__eq__` raises.
    """
    return _difference(written, read, _EXACT if exact else _DECLARED)


def is_same(written: Struct, read: Struct) -> bool:
    """Whether a struct is certainly decoded to an equal one, as most are: both are flat and equal.

    `difference` then finds none. Both are of one type.
    """
    values, others = astuple(written), astuple(read)
    types = [*map(type, values)]
    return _PLAIN.issuperset(types) and types == [*map(type, others)] and values == others


_Mode = Literal["exact", "undeclared", "declared"]
_EXACT: _Mode = "exact"
_UNDECLARED: _Mode = "undeclared"
_DECLARED: _Mode = "declared"


def _difference(written: Any, read: Any, mode: _Mode) -> Difference | None:
    kind = type(written)
    if kind is not type(read):
        return _of_types(written, read, mode)
    if kind in _PLAIN:
        return None if written == read else _other_value()
    if isinstance(written, Struct):
        undeclared = _undeclared_in(type(written)) if mode == _DECLARED else frozenset()
        return _of_fields(written.__struct_fields__, written, read, mode, undeclared)
    for base, key in _KEYS:
        if issubclass(kind, base):
            return None if key(written) == key(read) else _other_value()
    for bases, compare in _COMPARISONS:
        if issubclass(kind, bases):
            return compare(written, read, mode)
    if dataclasses.is_dataclass(kind):
        names = (field.name for field in dataclasses.fields(kind))
        return _of_fields(names, written, read, mode)
    return None if written == read else _other_value()


def _of_fields(
    names: Iterable[str],
    written: Any,
    read: Any,
    mode: _Mode,
    undeclared: frozenset[str] = frozenset(),
) -> Difference | None:
    for name in names:
        own = _UNDECLARED if name in undeclared else mode
        if found := _difference(getattr(written, name), getattr(read, name), own):
            return found.within(f".{name}")
    return None


@functools.cache
def _undeclared_in(cls: type[Struct]) -> frozenset[str]:
    """The fields that may hold values of types that are not declared."""
    return frozenset(
        f.name for f in msgspec.structs.fields(cls) if any(map(_is_open, leaves(f.type)))
    )


def _is_open(leaf: Any) -> bool:
    return isinstance(leaf, TypeVar) or leaf in (Any, object, list, dict, tuple, set, frozenset)


def _of_sequences(written: Any, read: Any, mode: _Mode) -> Difference | None:
    if len(written) != len(read):
        return Difference("", f"has {len(written)} items, and would be read with {len(read)}")
    if _are_equal_and_plain(written, read):
        return None
    for index, (one, other) in enumerate(zip(written, read, strict=True)):
        if found := _difference(one, other, mode):
            return found.within(f"[{index}]")
    return None


def _of_sets(written: Any, read: Any, mode: _Mode) -> Difference | None:
    if len(written) != len(read):
        return Difference("", f"has {len(written)} members, and would be read with {len(read)}")
    members = {each: each for each in read}
    for each in written:
        if each not in members:
            return _other_value()
        if found := _difference(each, members[each], mode):
            return found.within("[...]")
    return None


def _of_mappings(written: Any, read: Any, mode: _Mode) -> Difference | None:
    if len(written) != len(read):
        return Difference(
            "", f"has {counted(len(written), 'key')}, and would be read with {len(read)}"
        )
    if _are_plain(chain(written, written.values())) and _same_types(
        chain(written, written.values()), chain(read, read.values())
    ):
        return None if list(written.items()) == list(read.items()) else _other_value()
    for (key, value), (read_key, read_value) in zip(written.items(), read.items(), strict=True):
        found = _difference(key, read_key, mode)
        found = found or _difference(value, read_value, mode)
        if found:
            return found.within("[...]")
    return None


def _of_times(written: Any, read: Any, mode: _Mode) -> Difference | None:
    offset, read_offset = written.utcoffset(), read.utcoffset()
    if offset != read_offset:
        return Difference("", f"has the offset {offset}, and would be read with {read_offset}")
    if written.replace(tzinfo=None, fold=0) != read.replace(tzinfo=None, fold=0):
        return _other_value()
    if offset is None and (written.tzinfo is None) != (read.tzinfo is None):
        return Difference("", f"has the zone {written.tzinfo}, and would be read without one")
    if offset is None and written.fold != read.fold:
        return Difference(
            "", "is the second of two equal times, and would be read as the first: give it a zone"
        )
    zone, read_zone = ((value.fold, value.tzinfo, value.tzname()) for value in (written, read))
    if mode == _EXACT and zone != read_zone:
        return Difference("", f"has the zone {written.tzinfo}, which would not be read again")
    return None


# What tells values of a type apart, where `==` does not.
_KEYS: tuple[tuple[type, Callable[[Any], object]], ...] = (
    (float, lambda value: (value, math.copysign(1, value))),
    (Decimal, Decimal.as_tuple),
    (Raw, lambda value: bytes(value).strip()),  # surrounding space is dropped
)
_COMPARISONS = (
    ((list, tuple), _of_sequences),
    (dict, _of_mappings),
    ((set, frozenset), _of_sets),
    ((datetime, time), _of_times),
)


def _of_types(written: Any, read: Any, mode: _Mode) -> Difference | None:
    """The difference between values of two types; None if the one was converted to the other."""
    if mode == _DECLARED:
        match written, read:
            case int(), float() if type(written) is int:
                return None if written == read else _other_value()
            case (list(), tuple()) | (tuple(), list()) if type(written) in (list, tuple):
                return _of_sequences(written, read, mode)
            case (set() | frozenset(), set() | frozenset()) if type(written) in (set, frozenset):
                return _of_sets(written, read, mode)
            case dict(), Struct() if type(written) is dict:
                return _of_object(written, read, mode)
            case str() | int() | float(), _ if _is_parsed(written, read):
                return None
            case float(), None:
                return Difference("", "is no finite number: JSON has no NaN and no infinity")
    return Difference("", f"is a {_name(written)}, and would be read as a {_name(read)}")


def _of_object(written: dict[Any, Any], read: Struct, mode: _Mode) -> Difference | None:
    names = dict(zip(read.__struct_encode_fields__, read.__struct_fields__, strict=True))
    for key, value in written.items():
        if key not in names:
            return Difference("[...]", f"would not be read: {_name(read)} has no such field")
        if found := _difference(value, getattr(read, names[key]), mode):
            return found.within(f".{key}")
    return None


def _is_parsed(written: Any, read: Any) -> bool:
    """Whether a text or a number was decoded to the type that its field declares."""
    return type(written) in _JSON_SCALARS and type(read) not in (*_JSON_SCALARS, list, dict)


def _are_equal_and_plain(written: Sequence[Any], read: Sequence[Any]) -> bool:
    """Whether sequences of one length have equal, interchangeable items."""
    types = list(map(type, written))
    return _PLAIN.issuperset(types) and types == list(map(type, read)) and [*written] == [*read]


def _are_plain(values: Iterable[Any]) -> bool:
    return set(map(type, values)) <= _PLAIN


def _same_types(some: Iterable[Any], others: Iterable[Any]) -> bool:
    return list(map(type, some)) == list(map(type, others))


def _other_value() -> Difference:
    return Difference("", "would be read as another value")


def _name(value: Any) -> str:
    return type(value).__qualname__
