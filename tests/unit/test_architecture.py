"""The house: which module may import which, and who alone may know what."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TypeGuard

import pytest

ROOT = Path(__file__).parents[2]

ROOMS = [
    "eventstore.jetstream.vocabulary",
    "eventstore.errors",
    "eventstore.undecodable",
    "eventstore.text",
    "eventstore.private_files",
    "eventstore.telemetry",
    "eventstore.concurrency",
    "eventstore.messages",
    "eventstore.config",
    "eventstore.decider",
    "eventstore.testing",
    "eventstore.client",
    "eventstore.server",
    "eventstore.jetstream",
    "eventstore.parking",
    "eventstore.store",
    "eventstore.service",
    "eventstore.commands",
    "eventstore.subscribers",
    "eventstore.audit",
    "eventstore.transfer",
    "eventstore.delegation",
    "eventstore.deployment",
    "eventstore.application",
    "eventstore",
    "eventstore.projections",
    "eventstore.nix",
    "projections",
    "eventstore.cli",
    "eventstore.__main__",
]
"""From the ground up: each may import what stands above it here, and what is in it."""

READ_SIDE = ["signature", "projection", "database", "worker", "testing", "health", "feed"]
READ_SIDE += ["queries", "audit", "rebuild"]
"""The rooms of `eventstore.projections`, in the same order."""

NOT_PURE = {"asyncio", "nats", "random", "socket", "sqlalchemy", "subprocess", "time"}
"""What deciding, folding, naming and encoding have nothing to do with."""

FOR_A_DOMAIN = {"decider", "errors", "messages", "nix", "undecodable"}
"""The rooms that the write side of the domain that ships is made of."""


@cache
def sources() -> Mapping[str, ast.Module]:
    """Every module by its name, parsed."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): ast.parse(
            path.read_text(encoding="utf-8")
        )
        for package in ("eventstore", "projections")
        for path in sorted((ROOT / package).rglob("*.py"))
    }


@cache
def imports(module: str) -> frozenset[str]:
    """What a module imports, wherever in it; names of modules where the imported name is one."""
    return frozenset(_imports(module))


def _imports(module: str) -> Iterator[str]:
    for node in ast.walk(sources()[module]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in sources() else str(node.module)


def own_imports(module: str) -> set[str]:
    return {name for name in imports(module) if name in sources()}


def room(module: str) -> str:
    """The room a module is in: itself, or the nearest package that is one."""
    if module in ("eventstore", "projections", "eventstore.jetstream.vocabulary"):
        return module
    name = ".".join(module.split(".")[:2]) if module.startswith("eventstore.") else "projections"
    assert name in ROOMS, f"{module} is in no room: put it into one, or a new one into ROOMS"
    return name


def test_imports_point_in_one_direction() -> None:
    upwards = [
        f"{module} is not to know {imported}"
        for module in sources()
        for imported in own_imports(module)
        if ROOMS.index(room(imported)) > ROOMS.index(room(module))
    ]
    assert upwards == []


def test_imports_of_the_read_side_point_in_one_direction() -> None:
    inside = [each for each in sources() if each.startswith("eventstore.projections.")]
    place = {module: READ_SIDE.index(module.split(".")[2]) for module in inside}
    upwards = [
        f"{module} is not to know {imported}"
        for module in inside
        for imported in own_imports(module) & set(inside)
        if place[imported] > place[module]
    ]
    assert upwards == []


def test_every_room_is_there_and_used() -> None:
    assert {room(module) for module in sources()} == set(ROOMS)


def test_only_the_command_line_knows_the_read_models_of_the_domain_that_ships() -> None:
    knowing = {
        room(module)
        for module in sources()
        if any(name.partition(".")[0] == "projections" for name in imports(module))
    }
    assert knowing == {"projections", "eventstore.cli"}


def test_there_are_no_circles() -> None:
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path[path.index(module) :], module))
        if module not in done:
            for imported in own_imports(module) - {module}:
                visit(imported, (*path, module))
            done.add(module)

    for module in sources():
        visit(module, ())


def test_what_is_pure_has_no_loop_and_no_connection() -> None:
    pure = {"errors", "messages", "decider", "testing", "telemetry", "undecodable"}
    used = {
        (module, imported)
        for module in sources()
        if room(module).removeprefix("eventstore.") in pure
        for imported in imports(module)
    }
    assert {each for each in used if each[1].partition(".")[0] in NOT_PURE} == set()


def test_the_domain_that_ships_uses_only_what_any_domain_may() -> None:
    used = {
        imported.split(".")[1]
        for module in sources()
        if room(module) == "eventstore.nix" and module != "eventstore.nix.stale_packages"
        for imported in own_imports(module)
    }
    assert used <= FOR_A_DOMAIN


def test_deciders_have_no_clock_and_no_chance() -> None:
    for module in sources():
        if module.startswith("eventstore.nix"):
            assert {"asyncio", "random", "secrets", "socket", "time"}.isdisjoint(imports(module))


def test_errors_of_the_nats_client_become_ours_in_one_place() -> None:
    knowing = {
        room(module)
        for module, source in sources().items()
        for node in ast.walk(source)
        if isinstance(node, ast.ImportFrom)
        and (
            node.module == "nats.errors"
            or (node.module == "nats" and "errors" in [alias.name for alias in node.names])
        )
    }
    assert knowing == {"eventstore.client"}


def test_nobody_uses_the_nats_clients_own_jetstream() -> None:
    for module in sources():
        assert [name for name in imports(module) if name.startswith("nats.js")] == [], module


def test_the_embedded_server_is_for_those_who_ask_for_it() -> None:
    knowing = {
        room(module) for module in sources() if "eventstore.server.embedded" in imports(module)
    }
    assert knowing == {"eventstore", "eventstore.cli"}


def test_a_module_is_a_noun_and_says_what_it_is_for() -> None:
    for module, source in sources().items():
        assert ast.get_docstring(source), f"{module} has no docstring"
        words = set(module.replace("_", ".").split("."))
        assert words.isdisjoint({"util", "utils", "helper", "helpers", "manager", "misc", "common"})


def test_nothing_is_global_that_changes() -> None:
    changing = [
        module
        for module, source in sources().items()
        if any(isinstance(node, ast.Global) for node in ast.walk(source))
    ]
    assert changing == []


def calls(method: str) -> set[str]:
    """The modules in which a method of this name is called."""
    return {
        module
        for module, source in sources().items()
        for node in ast.walk(source)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == method
    }


def test_every_answer_passes_the_gate() -> None:
    """What answers does so by `Client.respond`, and nothing else looks at a reply subject."""
    assert calls("respond") == {"eventstore.client.responder", "eventstore.commands.worker"}
    looking = {
        module
        for module, source in sources().items()
        for node in ast.walk(source)
        if isinstance(node, ast.Attribute) and node.attr == "reply"
    }
    assert looking == {
        "eventstore.client.responder",  # which hands it to the gate
        "eventstore.jetstream.consumer",  # what the server delivers, which is checked there
        "eventstore.jetstream.acks",  # which acknowledges what a pull has checked
        "eventstore.commands.decoding",
    }


def test_nobody_uses_nats_pys_micro_services() -> None:
    """They answer on every reply subject, and give the request's headers back."""
    for module in sources():
        assert [name for name in imports(module) if name.startswith("nats.micro")] == [], module


@pytest.mark.parametrize("prefix", ["$JS.API", "_INBOX"])
def test_prefixes_come_from_the_settings(prefix: str) -> None:
    knowing = {
        module
        for module, source in sources().items()
        for node in ast.walk(source)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.value.startswith(prefix)
    }
    writing = {module for module in sources() if room(module) == "eventstore.deployment"}
    own = {"eventstore.config", "eventstore.client.reply_gate", "eventstore.jetstream.vocabulary"}
    assert knowing <= {*own, *writing}


def test_every_logger_is_its_modules_and_makes_its_records_safe() -> None:
    for module, source in sources().items():
        loggers = [node for node in ast.walk(source) if _is_call(node, "getLogger") and node.args]
        made_safe = [
            ast.unparse(node.args[0])
            for node in ast.walk(source)
            if _is_call(node, "make_log_records_safe")
        ]
        for logger in loggers:
            assert ast.unparse(logger) == "logging.getLogger(__name__)", module
            assert ast.unparse(logger) in made_safe, module


def _is_call(node: ast.AST, name: str) -> TypeGuard[ast.Call]:
    if not isinstance(node, ast.Call):
        return False
    return name in (getattr(node.func, "attr", None), getattr(node.func, "id", None))
