"""What others may use: it is listed, it is there, and it is documented."""

from __future__ import annotations

import ast
import importlib
import inspect
import itertools
import pkgutil
import re
import subprocess
import sys
import typing
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType

import eventstore
import projections
from eventstore.service.metrics import Metrics

ROOT = Path(__file__).parents[2]
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


MODULES_OF_THEIR_OWN = [
    *("eventstore.application", "eventstore.config", "eventstore.errors", "eventstore.telemetry"),
    *("eventstore.testing", "eventstore.undecodable", "eventstore.projections.health"),
    *("eventstore.projections.testing", "eventstore.service.metrics", "eventstore.service.tracing"),
    "eventstore.nix.stale_packages",
]
"""Modules whose `__all__` is public; otherwise only that of a package is."""

OF_THE_LIBRARY = {"Backend", "CachedState", "ConsumerSpec", "DataKey"}
OF_THE_LIBRARY |= {"DecodedCommand", "Expectation", "FirstLine", "Forgotten", "Import"}
OF_THE_LIBRARY |= {"LogFindings", "Message", "Pausable", "PendingAppend", "PersonalField"}
OF_THE_LIBRARY |= {"Snapshot", "State", "StoredMessage", "StreamSpec", "Upcaster"}
"""Types of public signatures that nobody has to name: one public call makes what another takes."""


@cache
def public_names() -> Mapping[str, frozenset[str]]:
    """The names that a program may import, by the module that it imports them from."""
    packages = ["eventstore"]
    packages += [
        found.name
        for found in pkgutil.walk_packages(eventstore.__path__, "eventstore.")
        if found.ispkg and found.name != "eventstore.projections.database.backends"
    ]
    listing = sorted([*packages, *MODULES_OF_THEIR_OWN])
    return {name: frozenset(listed(importlib.import_module(name))) for name in listing}


def test_the_public_names_are_these() -> None:
    """A change of this file is a change of what programs may rely on."""
    file = ROOT / "tests" / "unit" / "public_names.txt"
    now = {f"{module} {name}" for module, names in public_names().items() for name in names}
    assert now == set(file.read_text(encoding="utf-8").splitlines())


def test_what_the_package_offers_comes_from_lists_of_its_rooms() -> None:
    assert public_names()["eventstore"] - {"declare", "topology"} <= {
        name for module, names in public_names().items() if module != "eventstore" for name in names
    }


def documents() -> Iterator[tuple[str, str]]:
    """The Python code that shows how the library is used, and where it is."""
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for number, code in enumerate(
            re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)
        ):
            yield f"{path.name}[{number}]", code
    for folder in ("examples", "eventstore/nix", "projections"):
        for path in (ROOT / folder).rglob("*.py"):
            yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")


def test_users_import_only_public_names() -> None:
    for place, code in documents():
        own = "eventstore.nix." if place.startswith("eventstore") else "projections."
        for node in ast.walk(ast.parse(code)):
            if not isinstance(node, ast.ImportFrom) or str(node.module).startswith(own):
                continue
            module = str(node.module)
            if module.partition(".")[0] == "eventstore":
                names = {each.name for each in node.names if f"{module}.{each.name}" not in MODULES}
                assert names <= public_names().get(module, set()), f"{place}: {module}"


def types_of(annotation: object) -> Iterator[type]:
    """The library's own types in an annotation."""
    for each in (annotation, typing.get_origin(annotation)):
        if inspect.isclass(each) and each.__module__.startswith("eventstore."):
            yield each
    for argument in typing.get_args(annotation):
        for each in argument if isinstance(argument, list) else [argument]:
            yield from types_of(each)


def annotated(value: typing.Any) -> Iterator[typing.Any]:
    """What of a public function or class has annotations that users see."""
    if not inspect.isclass(value):
        yield value
        return
    for name, member in vars(value).items():
        if name == "__init__" or not name.startswith("_"):
            yield member.fget if isinstance(member, property) else member


def test_no_public_signature_needs_a_private_type() -> None:
    public = [
        getattr(importlib.import_module(module), name)
        for module, names in public_names().items()
        for name in names
    ]
    private = {
        kind.__name__
        for function in itertools.chain.from_iterable(map(annotated, public))
        if inspect.isfunction(function)
        for annotation in typing.get_type_hints(function, None, {"Metrics": Metrics}).values()
        for kind in types_of(annotation)
        if kind not in public
    }
    assert private == OF_THE_LIBRARY


def test_a_program_that_only_writes_loads_neither_sqlalchemy_nor_the_command_line() -> None:
    heavy = ["sqlalchemy", "prometheus_client", "typer", "rich", "alembic"]
    code = f"import sys, eventstore; print([each for each in {heavy} if each in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (loaded.stdout, loaded.stderr) == ("[]\n", "")


def test_each_room_can_be_imported_first() -> None:
    """No room needs another one to have been imported before it."""
    code = """
import importlib, sys, eventstore
loaded = set(sys.modules)
for name in sys.argv[1:]:
    importlib.import_module(name)
    for each in [each for each in sys.modules if each.startswith("eventstore.")]:
        if each not in loaded:
            del sys.modules[each]
"""
    command = [sys.executable, "-c", code, *public_names()]
    assert subprocess.run(command, capture_output=True, text=True).stderr == ""
