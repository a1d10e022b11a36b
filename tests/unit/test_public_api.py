"""What others may use: it is listed, it is there, and it is documented."""

from __future__ import annotations

import ast
import importlib
import inspect
import itertools
import pkgutil
from pathlib import Path
from types import ModuleType

import eventstore
import projections

PACKAGES: tuple[ModuleType, ...] = (eventstore, projections)
MODULES = sorted(
    found.name
    for package in PACKAGES
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if not found.name.endswith(".__main__") and not found.name.startswith("projections.migrations")
)


def listed(module: ModuleType) -> list[str]:
    return list(getattr(module, "__all__", []))


def rank(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions, each by the alphabet."""
    kind = 0 if name.isupper() else 1 if name[0].isupper() else 2
    return kind, name


def documented_names(name: str) -> set[str]:
    """The constants and aliases of a module that have a docstring below them."""
    file = importlib.import_module(name).__file__
    body = ast.parse(Path(str(file)).read_text(encoding="utf-8")).body
    return {
        target.id
        for node, following in itertools.pairwise(body)
        if isinstance(node, ast.Assign)
        and isinstance(following, ast.Expr)
        and isinstance(following.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def test_the_package_lists_what_it_offers_in_order() -> None:
    names = listed(eventstore)
    assert names == sorted(set(names), key=rank)
    imported = {
        name
        for name, value in vars(eventstore).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert set(names) == imported


def test_the_package_offers_what_its_promises_need() -> None:
    assert {
        *("Command", "Event", "Decider", "Domain", "Rejected"),
        *("EventStore", "Append", "ANY", "NO_STREAM", "Conflict", "RecordedEvent"),
        *("CommandClient", "CommandWorker", "Outcome"),
        *("connect", "Settings", "load_settings", "EmbeddedServer", "EventStoreError"),
    } <= set(eventstore.__all__)


def test_everything_can_be_imported_with_a_star() -> None:
    names: dict[str, object] = {}
    exec("from eventstore import *", names)  # noqa: S102  # there is no other way to say it
    assert set(eventstore.__all__) <= names.keys()


def test_a_module_lists_what_is_public_and_all_of_it_is_documented() -> None:
    for name in MODULES:
        module = importlib.import_module(name)
        names = listed(module)
        assert names == sorted(set(names), key=rank), name
        assert [each for each in names if not hasattr(module, each)] == [], name
        for each in names:
            value = getattr(module, each)
            if inspect.isclass(value) or inspect.isfunction(value):
                assert inspect.getdoc(value), f"{name}.{each} has no docstring"


def test_the_packages_constants_are_documented_where_they_are_made() -> None:
    documented = {each for name in MODULES for each in documented_names(name)}
    constants = {
        name
        for name in eventstore.__all__
        if not inspect.isclass(value := getattr(eventstore, name)) and not inspect.isfunction(value)
    }
    assert constants <= documented


def test_public_methods_are_documented() -> None:
    without = [
        f"{name}.{each}.{method}"
        for name in MODULES
        for each, value in vars(importlib.import_module(name)).items()
        if each in listed(importlib.import_module(name))
        and inspect.isclass(value)
        and value.__module__ == name
        for method, function in vars(value).items()
        if inspect.isfunction(function)
        and not method.startswith("_")
        and not inspect.getdoc(function)
    ]
    assert without == []
