"""What the garbage collector does not see holds no errors, whose frames would lead back to it."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any, get_args

import msgspec
import pytest

import eventstore


def _structs(of: type[msgspec.Struct] = msgspec.Struct) -> Iterator[type[msgspec.Struct]]:
    for each in of.__subclasses__():
        yield each
        yield from _structs(each)


def _types(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in get_args(annotation):
        yield from _types(part)


def _unseen() -> list[type[msgspec.Struct]]:
    for module in pkgutil.walk_packages(eventstore.__path__, "eventstore."):
        if "revisions" not in module.name and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    own = (each for each in _structs() if each.__module__.startswith("eventstore."))
    return sorted({each for each in own if not each.__struct_config__.gc}, key=str)


@pytest.mark.parametrize("struct", _unseen(), ids=lambda struct: struct.__qualname__)
def test_it_holds_no_error(struct: type[msgspec.Struct]) -> None:
    hints = msgspec.structs.fields(struct)
    kinds = [kind for field in hints for kind in _types(field.type)]
    assert not [
        kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseException)
    ]
