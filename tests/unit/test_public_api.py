"""The public surface: its names are pinned, documented, and all that users need."""

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

import pytest
from alembic.config import Config
from sqlalchemy import MetaData
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

import eventstore
from eventstore.application import ApplicationClient
from eventstore.application.service import RunningApplication
from eventstore.projections import Projection
from eventstore.projections.database.checkpoint import Checkpoint
from eventstore.projections.queries import QueryHandlers
from eventstore.projections.worker.worker import ProjectionWorker
from eventstore.service.metrics import Metrics

ROOT = Path(__file__).parents[2]
PRIVATE = (
    "eventstore.projections.database.backends",
    "eventstore.projections.database.catalog",
    "eventstore.console.pages",
)
"""Packages that only the library itself imports."""

PACKAGES = {"eventstore"} | {
    found.name
    for found in pkgutil.walk_packages(eventstore.__path__, "eventstore.")
    if found.ispkg and not found.name.startswith(("eventstore.cli.", *PRIVATE))
}
MODULES_OF_THEIR_OWN = {
    *("eventstore.application.service", "eventstore.telemetry"),
    "eventstore.projections.health",
    "eventstore.processes.testing",
    *(
        "eventstore.projections.testing",
        "eventstore.service.http_server",
        "eventstore.service.metrics",
        "eventstore.service.tracing",
    ),
    *("eventstore.subscribers.testing", "eventstore.nix.stale_builds"),
    "eventstore.timers.testing",
}
"""Modules whose `__all__` is public; otherwise only that of a package is."""

LOADED_LATE = {
    each.__name__: each
    for each in (
        *(ApplicationClient, AsyncConnection, AsyncEngine, Checkpoint, Config, MetaData),
        *(Metrics, Projection, ProjectionWorker, QueryHandlers, RunningApplication),
    )
}
"""What is imported only where it is needed, and so not by the modules that name it."""

OF_THE_LIBRARY = {"Backend", "CachedState", "ConsumerSpec", "DataKey", "Declaration"}
OF_THE_LIBRARY |= {
    "DecodedCommand",
    "Expectation",
    "FileState",
    "FirstLine",
    "DestroyedKey",
    "Import",
}
OF_THE_LIBRARY |= {"LogFindings", "Message", "Pausable", "PendingAppend", "PersonalField"}
OF_THE_LIBRARY |= {"ReadProcess", "Snapshot", "StoredMessage", "StreamSpec", "Upcaster"}
OF_THE_LIBRARY |= {
    "EndpointStats",
    "EventTemplate",
    "LoopThread",
    "Outgoing",
    "Receiver",
    "Requests",
}
"""Types of public signatures that nobody has to name: one public call makes what another takes."""


@cache
def lists() -> Mapping[str, list[str]]:
    """The names that a program may import, by the module that it imports them from."""
    modules = sorted(PACKAGES | MODULES_OF_THEIR_OWN)
    return {name: importlib.import_module(name).__all__ for name in modules}


def public_values() -> list[typing.Any]:
    return [
        getattr(importlib.import_module(module), name)
        for module, names in lists().items()
        for name in names
    ]


def rank(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions, each by the alphabet."""
    kind = 0 if name.isupper() else 1 if name[0].isupper() else 2
    return kind, name


def test_each_list_is_in_order_and_all_of_it_is_there() -> None:
    for module, names in lists().items():
        assert names == sorted(set(names), key=rank), module
    assert len(public_values()) == sum(map(len, lists().values()))


def test_public_constants_are_documented() -> None:
    """Ruff asks for the docstrings of classes and functions."""
    constants = {
        name
        for module, names in lists().items()
        for name in names
        if not callable(getattr(importlib.import_module(module), name))
    }
    assert constants <= documented_constants()


def documented_constants() -> set[str]:
    """The constants and aliases of the library that have a docstring below them."""
    return {
        ast.unparse(target)
        for path in (ROOT / "eventstore").rglob("*.py")
        for node, below in itertools.pairwise(ast.parse(path.read_text(encoding="utf-8")).body)
        if isinstance(node, ast.Assign | ast.AnnAssign)
        and isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
    }


def test_the_public_names_are_these() -> None:
    """A change of this file is a change of what programs may rely on."""
    file = ROOT / "tests" / "unit" / "public_names.txt"
    now = {f"{module} {name}" for module, names in lists().items() for name in names}
    assert now == set(file.read_text(encoding="utf-8").splitlines())


def test_what_the_package_offers_comes_from_lists_of_its_rooms() -> None:
    assert set(lists()["eventstore"]) - {"declare", "topology"} <= {
        name for module, names in lists().items() if module != "eventstore" for name in names
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
        own = "eventstore.nix" if place.startswith("eventstore") else "projections"
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith("eventstore."):
                module = str(node.module)
                names = {each.name for each in node.names if f"{module}.{each.name}" not in lists()}
                is_public = names <= set(lists().get(module, []))
                assert is_public or module.startswith(own), f"{place}: {module}"


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
    public = public_values()
    private = {
        kind.__name__
        for function in itertools.chain.from_iterable(map(annotated, public))
        if inspect.isfunction(function)
        for annotation in typing.get_type_hints(function, None, LOADED_LATE).values()
        for kind in types_of(annotation)
        if kind not in public
    }
    assert private == OF_THE_LIBRARY


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("eventstore", ["sqlalchemy", "prometheus_client", "typer", "rich", "alembic"]),
        ("examples.bank", ["sqlalchemy.orm", "sqlalchemy.dialects.postgresql", "alembic"]),
    ],
    ids=["writes only", "declares an application"],
)
def test_a_program_loads_nothing_heavy_that_it_does_not_use(module: str, heavy: list[str]) -> None:
    code = f"import sys, {module}; print([each for each in {heavy} if each in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
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
    command = [sys.executable, "-c", code, *lists()]
    assert subprocess.run(command, capture_output=True, text=True).stderr == ""


def test_nothing_else_lists_names() -> None:
    listing = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in (ROOT / "eventstore").rglob("*.py")
        if "__all__" in path.read_text(encoding="utf-8")
    }
    assert listing == {*lists(), *PRIVATE}
