"""The house: which module may import which, and who alone may know what."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

LAYERS = [
    "eventstore.errors",
    "eventstore.server_version",
    "eventstore.undecodable",
    "eventstore.outcome",
    "eventstore.visible",
    "eventstore.telemetry",
    "eventstore.subjects",
    "eventstore.private_files",
    "eventstore.config",
    "eventstore.backoff",
    "eventstore.first_connect",
    "eventstore.cancellation",
    "eventstore.turn",
    "eventstore.failures",
    "eventstore.personal",
    "eventstore.messages",
    "eventstore.upcasting",
    "eventstore.queries",
    "eventstore.envelope",
    "eventstore.handling",
    "eventstore.event_handlers",
    "eventstore.chain",
    "eventstore.command_filter",
    "eventstore.sealing",
    "eventstore.fidelity",
    "eventstore.master_keys",
    "eventstore.codec",
    "eventstore.decider_function",
    "eventstore.aggregate",
    "eventstore.testing",
    "eventstore.server_binary",
    "eventstore.server",
    "eventstore.credentials",
    "eventstore.protocol",
    "eventstore.connection",
    "eventstore.answers",
    "eventstore.api_answers",
    "eventstore.reply_gate",
    "eventstore.client",
    "eventstore.patience",
    "eventstore.streams",
    "eventstore.publishing",
    "eventstore.published",
    "eventstore.asking",
    "eventstore.parked_record",
    "eventstore.pull",
    "eventstore.settling",
    "eventstore.stored_message",
    "eventstore.direct",
    "eventstore.chain_links",
    "eventstore.erasure",
    "eventstore.erasing",
    "eventstore.key_bucket",
    "eventstore.keyring",
    "eventstore.configuration",
    "eventstore.control",
    "eventstore.places",
    "eventstore.responder",
    "eventstore.event_retry",
    "eventstore.delegation",
    "eventstore.deployment",
    "eventstore.foreign",
    "eventstore.writes",
    "eventstore.id_index",
    "eventstore.append_retries",
    "eventstore.recording",
    "eventstore.raw_log",
    "eventstore.history",
    "eventstore.store",
    "eventstore.audit",
    "eventstore.transfer",
    "eventstore.facts",
    "eventstore.state_shape",
    "eventstore.snapshot_format",
    "eventstore.snapshot_bucket",
    "eventstore.snapshots",
    "eventstore.commands",
    "eventstore.parked",
    "eventstore.command_status",
    "eventstore.event_parking",
    "eventstore.attempts",
    "eventstore.subscriber_consumer",
    "eventstore.subscribing",
    "eventstore.application",
    "eventstore.audit",
    "eventstore.metrics",
    "eventstore.tracing",
    "eventstore.health",
    "eventstore.checks",
    "eventstore.discovery",
    "eventstore.micro",
    "eventstore.service",
    "eventstore",
    "eventstore.nix",
    "eventstore.processes",
    "projections.models",
    "projections.signature",
    "projections.projection",
    "projections.scope",
    "projections.batches",
    "projections.checkpoint",
    "projections.backends",
    "projections.parking",
    "projections.schema",
    "projections.database",
    "projections.ownership",
    "projections.apply",
    "projections.testing",
    "projections.parked",
    "projections.feed_position",
    "projections.feed_lease",
    "projections.feed_findings",
    "projections.feed",
    "projections.feeding",
    "projections.watching",
    "projections.rate",
    "projections.progress",
    "projections.reactions",
    "projections.follower",
    "projections.lane",
    "projections.worker",
    "projections.health",
    "projections.positions",
    "projections.conditions",
    "projections.cursor",
    "projections.rows",
    "projections.queries",
    "projections.audit",
    "projections.read_ahead",
    "projections.shadow",
    "projections.switch",
    "projections.rebuild",
    "projections.auto_rebuild",
    "projections",
    "projections.nix",
    "eventstore.cli",
    "eventstore.__main__",
]
"""From the ground up: each may import what stands above it here, and what is in its own package.

A new module is to be put where it belongs.
"""

PURE = [
    "errors",
    "undecodable",
    "subjects",
    "personal",
    "messages",
    "upcasting",
    "queries",
    "envelope",
    "chain",
    "command_filter",
    "sealing",
    "codec",
    "aggregate",
    "testing",
    "telemetry",
]
"""What decides, folds, names and encodes: no loop, no connection, no clock, no chance."""

PURE_FOR_NIX = {
    "aggregate",
    "envelope",
    "errors",
    "messages",
    "nix",
    "queries",
    "undecodable",
}

KNOWS_NATS_ERRORS = {"eventstore.client", "eventstore.connection", "eventstore.protocol"}


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


def imports(module: str) -> Iterator[str]:
    """What a module imports, wherever in it; names of modules where the imported name is one."""
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


def layer(module: str) -> str:
    """The layer a module belongs to: itself, or the nearest package that is one."""
    name = module
    while name not in LAYERS and "." in name:
        name = name.rpartition(".")[0]
    is_package_of_others = name != module and name in ("eventstore", "projections")
    assert name in LAYERS, f"{module} belongs to no layer"
    assert not is_package_of_others, f"put {module} into LAYERS, where it belongs"
    return name


@pytest.mark.parametrize("module", sources())
def test_imports_point_in_one_direction(module: str) -> None:
    own = layer(module)
    upwards = [
        imported
        for imported in own_imports(module)
        if layer(imported) != own and LAYERS.index(layer(imported)) > LAYERS.index(own)
    ]
    assert upwards == [], f"{module} is not to know these"


def test_every_layer_is_there() -> None:
    assert [name for name in LAYERS if name not in sources()] == []


def test_only_the_command_line_knows_both_sides() -> None:
    knowing = {
        module
        for module in sources()
        if module.startswith("eventstore")
        and any(name.startswith("projections") for name in imports(module))
    }
    assert {layer(module) for module in knowing} == {"eventstore.cli"}


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


@pytest.mark.parametrize("name", PURE)
def test_what_is_pure_has_no_loop_and_no_connection(name: str) -> None:
    impure = {"asyncio", "nats", "random", "socket", "sqlalchemy", "subprocess", "time"}
    assert {imported.partition(".")[0] for imported in imports(f"eventstore.{name}")} & impure == (
        set()
    )


def test_the_domain_that_ships_uses_only_what_any_domain_may() -> None:
    used = {
        imported.split(".")[1]
        for module in sources()
        if module.startswith("eventstore.nix")
        for imported in own_imports(module)
    }
    assert used <= PURE_FOR_NIX


def test_deciders_have_no_clock_and_no_chance() -> None:
    for module in sources():
        if module.startswith("eventstore.nix"):
            assert {"asyncio", "random", "secrets", "socket", "time"}.isdisjoint(imports(module))


def test_errors_of_the_nats_client_become_ours_in_one_place() -> None:
    knowing = {
        module
        for module, source in sources().items()
        for node in ast.walk(source)
        if isinstance(node, ast.ImportFrom)
        and (
            node.module == "nats.errors"
            or (node.module == "nats" and "errors" in [alias.name for alias in node.names])
        )
    }
    assert knowing <= KNOWS_NATS_ERRORS


def test_nobody_uses_the_nats_clients_own_jetstream() -> None:
    for module in sources():
        assert [name for name in imports(module) if name.startswith("nats.js")] == [], module


def test_the_embedded_server_is_for_those_who_ask_for_it() -> None:
    knowing = {layer(module) for module in sources() if "eventstore.server" in imports(module)}
    assert knowing == {"eventstore", "eventstore.cli"}


@pytest.mark.parametrize("module", sources())
def test_a_module_is_a_noun_and_says_what_it_is_for(module: str) -> None:
    assert ast.get_docstring(sources()[module]), f"{module} has no docstring"
    words = set(module.replace("_", ".").split("."))
    assert words.isdisjoint({"util", "utils", "helper", "helpers", "manager", "misc", "common"})


@pytest.mark.parametrize("module", sources())
def test_nothing_is_global_that_changes(module: str) -> None:
    assert not any(isinstance(node, ast.Global) for node in ast.walk(sources()[module]))


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
    assert calls("respond") == {"eventstore.responder", "eventstore.commands.worker"}
    looking = {
        module
        for module, source in sources().items()
        for node in ast.walk(source)
        if isinstance(node, ast.Attribute) and node.attr == "reply"
    }
    assert looking == {
        "eventstore.responder",  # which hands it to the gate
        "eventstore.pull",  # where the server says what it delivers, and that is checked
        "eventstore.settling",  # which acknowledges what a pull has checked
        "eventstore.commands.intake",
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
    writing = {module for module in sources() if layer(module) == "eventstore.deployment"}
    assert knowing <= {"eventstore.config", "eventstore.reply_gate", *writing}
