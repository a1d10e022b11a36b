"""Decoders of classes of messages, and whether JSON can hold what their fields declare."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, TypeVar

import msgspec
from msgspec.inspect import CustomType, Type, type_info

from eventstore.errors import DeciderError
from eventstore.messages.types import Message

M = TypeVar("M", bound=Message)


def decoder_of(cls: type[M]) -> msgspec.json.Decoder[M]:
    """A decoder of JSON objects to messages of a class.

    Raises `DeciderError`, naming the class, for a field whose annotation cannot be resolved or
    whose type is none that JSON can hold. All domains of a program share the decoder of a class.
    """
    found: msgspec.json.Decoder[M] = _decoder_of(cls)
    return found


@lru_cache(maxsize=1_000)
def _decoder_of(cls: type[Any]) -> Any:
    try:
        decoder = msgspec.json.Decoder(cls)
        foreign = next(_foreign(type_info(cls), set()), None)
    except NameError as error:
        raise DeciderError(
            f"{cls.__name__}: annotation not understood, {error}; "
            "define or import the types in the module"
        ) from error
    except TypeError as error:
        raise DeciderError(f"{cls.__name__}: {error}") from error
    if foreign is not None:
        raise DeciderError(
            f"{cls.__name__}: JSON cannot hold a {foreign.__qualname__}; use a msgspec Struct, a "
            "dataclass, or a type that msgspec encodes and decodes"
        )
    return decoder


def _foreign(node: Any, seen: set[Any]) -> Iterator[type]:
    """The classes in a type that are neither encoded nor decoded."""
    if isinstance(node, tuple):
        for each in node:
            yield from _foreign(each, seen)
    elif isinstance(node, CustomType):
        if node.cls is not object:  # which is any type
            yield node.cls
    elif isinstance(node, msgspec.Struct):
        cls = getattr(node, "cls", None)
        if isinstance(node, Type) and cls is not None and cls in seen:
            return
        seen.add(cls)
        for name in node.__struct_fields__:
            yield from _foreign(getattr(node, name), seen)
