"""The architecture: which package may import which, and what only one of them may do."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TypeGuard

import pytest

ROOT = Path(__file__).parents[2]

ROOMS = [
    "eventstore.jetstream.vocabulary",
    "eventstore.errors",
    "eventstore.telemetry",
    "eventstore.concurrency",
    "eventstore.messages",
    "eventstore.config",
    "eventstore.decider",
    "eventstore.contracts",
    "eventstore.testing",
    "eventstore.client",
    "eventstore.server",
    "eventstore.jetstream",
    "eventstore.timers",
    "eventstore.parking",
    "eventstore.actions",
    "eventstore.store",
    "eventstore.service",
    "eventstore.commands",
    "eventstore.subscribers",
    "eventstore.processes",
    "eventstore.audit",
    "eventstore.transfer",
    "eventstore.delegation",
    "eventstore.deployment",
    "eventstore.projections",
    "eventstore.recovery",
    "eventstore.backup",
    "eventstore.application",
    "eventstore.sync",
    "eventstore.pytest_plugin",
    "eventstore.scaffold",
    "eventstore",
    "eventstore.console",
    "eventstore.nix",
    "projections",
    "eventstore.cli",
    "eventstore.__main__",
]
"""From bottom to top: each may import those listed before it, and itself."""

READ_SIDE = ["signature", "table_names", "projection", "database", "worker", "health"]
READ_SIDE += ["feed", "queries", "testing", "audit", "rebuild", "status", "control"]
"""The rooms of `eventstore.projections`, in the same order."""

NOT_PURE = {"asyncio", "nats", "random", "socket", "sqlalchemy", "subprocess", "time"}
"""Packages that deciding, folding, naming and encoding must not import."""

FOR_A_DOMAIN = {"decider", "errors", "messages", "nix", "processes"}
"""The packages that the write side of the shipped domain uses."""

COMPONENTS = {"WriteSide", "CommandHandler", "CommandWorker", "ConfigWatcher", "EmbeddedServer"}
COMPONENTS |= {"EventStore", "Feed", "FeedSupervisor", "Health", "HttpServer", "Metrics"}
COMPONENTS |= {"ProjectionWorker", "ServiceEndpoints", "Snapshots", "Tracing"}
"""The classes that a process is composed of."""

PUBLISHING = {"guarded", "publish", "publish_acked", "publish_queued"}
"""The functions that write to a stream."""


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


@cache
def imported_names(module: str) -> dict[str, str]:
    """The names that a module imports from others, and from which."""
    return {
        alias.name: str(node.module)
        for node in ast.walk(sources()[module])
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


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


def test_the_top_has_rooms_only_but_for_telemetry() -> None:
    top = {path.stem for path in (ROOT / "eventstore").glob("*.py")}
    assert top == {"__init__", "__main__", "telemetry"}


def test_only_the_command_line_imports_the_read_models_of_the_shipped_domain() -> None:
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


def test_pure_modules_have_no_event_loop_and_no_connection() -> None:
    pure = {"errors", "messages", "decider", "testing", "telemetry"}
    used = {
        (module, imported)
        for module in sources()
        if room(module).removeprefix("eventstore.") in pure
        for imported in imports(module)
    }
    assert {each for each in used if each[1].partition(".")[0] in NOT_PURE} == set()


def test_the_shipped_domain_uses_only_what_any_domain_may() -> None:
    homes = {name: home.split(".")[1] for name, home in imported_names("eventstore").items()}
    used = {
        homes[name] if home == "eventstore" else home.split(".")[1]
        for module in sources()
        if room(module) == "eventstore.nix"
        for name, home in imported_names(module).items()
        if home in sources()
    }
    assert used <= FOR_A_DOMAIN


def test_deciders_have_no_clock_and_no_randomness() -> None:
    for module in sources():
        if module.startswith("eventstore.nix"):
            assert {"asyncio", "random", "secrets", "socket", "time"}.isdisjoint(imports(module))


def test_chance_is_in_the_back_off_only() -> None:
    """Jitter is one decision, and nothing else of the library is left to chance."""
    knowing = {module for module in sources() if "random" in imports(module)}
    assert knowing == {"eventstore.concurrency.backoff"}


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


def test_a_module_is_a_noun_and_has_a_docstring() -> None:
    for module, source in sources().items():
        assert ast.get_docstring(source), f"{module} has no docstring"
        words = set(module.replace("_", ".").split("."))
        assert words.isdisjoint({"util", "utils", "helper", "helpers", "manager", "misc", "common"})


def test_there_are_no_mutable_globals() -> None:
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


def test_every_reply_passes_the_gate() -> None:
    """Replies are sent by `Client.respond`, and nothing else reads a reply subject."""
    assert calls("respond") == {"eventstore.client.responder", "eventstore.commands.worker"}
    looking = {
        module
        for module, source in sources().items()
        for node in ast.walk(source)
        if isinstance(node, ast.Attribute)
        and node.attr == "reply"
        and isinstance(node.ctx, ast.Load)
    }
    assert looking == {
        "eventstore.client.responder",  # which hands it to the gate
        "eventstore.jetstream.consumer",  # what the server delivers, which is checked there
        "eventstore.jetstream.stream_snapshot",  # the same
        "eventstore.jetstream.acks",  # which acknowledges what a pull has checked
        "eventstore.commands.decoding",
    }


def test_nobody_uses_nats_pys_micro_services() -> None:
    """They reply on every reply subject, and echo the request's headers."""
    for module in sources():
        assert [name for name in imports(module) if name.startswith("nats.micro")] == [], module


def constants(module: str) -> Iterator[object]:
    """Every number and text that a module writes, except its docstrings."""
    documented = {
        id(node.value) for node in ast.walk(sources()[module]) if isinstance(node, ast.Expr)
    }
    for node in ast.walk(sources()[module]):
        if isinstance(node, ast.Constant) and id(node) not in documented:
            yield node.value


def test_the_prefix_of_inboxes_comes_from_the_settings() -> None:
    knowing = {
        module
        for module in sources()
        if any(isinstance(each, str) and each.startswith("_INBOX") for each in constants(module))
    }
    writing = {module for module in sources() if room(module) == "eventstore.deployment"}
    assert knowing <= {"eventstore.config.settings", "eventstore.client.reply_gate", *writing}


def is_vocabulary(constant: object) -> bool:
    """Whether this is an error code of JetStream, a header's name, or a subject of its API."""
    if isinstance(constant, str):
        names = r"Nats-|KV-|\bKV_|\$KV\b|\$JS\b|\b(STREAM|CONSUMER|DIRECT)\.[A-Z]"
        return re.search(names, constant) is not None
    return isinstance(constant, int) and 10_000 < constant < 11_000


def test_only_jetstream_writes_error_codes_header_names_and_subjects() -> None:
    knowing = {
        module for module in sources() if any(is_vocabulary(each) for each in constants(module))
    }
    assert knowing == {"eventstore.jetstream.vocabulary"}


def test_the_vocabulary_imports_nothing_of_the_library() -> None:
    """So that a room below `jetstream` may name a header, too."""
    for module in ("eventstore.jetstream", "eventstore.jetstream.vocabulary"):
        assert own_imports(module) == set()


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
    return isinstance(node, ast.Call) and _called(node) == name


def _called(call: ast.Call) -> str | None:
    """The name of what is called, without what it belongs to."""
    function = call.func
    return getattr(function, "attr", None) or getattr(function, "id", None)


def rooms_importing(*packages: str) -> set[str]:
    """The rooms that import one of these packages, or something in it."""
    return {
        room(module)
        for module in sources()
        if any(f"{name}.".startswith(f"{each}.") for name in imports(module) for each in packages)
    }


def rooms_constructing(*classes: str) -> set[str]:
    return {
        room(module)
        for module, source in sources().items()
        for node in ast.walk(source)
        if isinstance(node, ast.Call) and _called(node) in classes
    }


def rooms_naming(attribute: str) -> set[str]:
    """The rooms that get a value by this attribute."""
    return {
        room(module)
        for module, source in sources().items()
        for node in ast.walk(source)
        if isinstance(node, ast.Attribute)
        and node.attr == attribute
        and isinstance(node.ctx, ast.Load)
    }


def test_messages_are_deterministic_except_for_utc_now_and_new_id() -> None:
    def changing(node: ast.AST) -> list[str]:
        called = (ast.unparse(each.func) for each in ast.walk(node) if isinstance(each, ast.Call))
        return [name for name in called if name in {"datetime.now", "os.urandom", "uuid.uuid4"}]

    functions = {
        node.name
        for module, source in sources().items()
        if room(module) in {"eventstore.messages", "eventstore.decider", "eventstore.nix"}
        for node in ast.walk(source)
        if isinstance(node, ast.FunctionDef) and changing(node)
    }
    assert functions == {"new_id", "utc_now"}


def test_client_is_the_only_room_that_imports_nats() -> None:
    assert rooms_importing("nats") == {"eventstore.client"}


def test_concurrency_knows_nothing_of_events() -> None:
    for module in sources():
        if room(module) == "eventstore.concurrency":
            assert {room(each) for each in own_imports(module)} <= {"eventstore.concurrency"}


def test_server_is_the_only_room_that_starts_a_process() -> None:
    assert rooms_importing("subprocess") == {"eventstore.server"}


def test_processes_of_a_service_are_started_in_two_places() -> None:
    starting = {"eventstore.application.read_process", "eventstore.cli.commands.dev"}
    assert calls("create_subprocess_exec") == starting


def test_commands_is_the_only_room_that_calls_decide() -> None:
    assert calls("decide") == {"eventstore.commands.handler", "eventstore.testing.scenario"}


def test_parking_is_used_beyond_its_list_only_by_those_who_park() -> None:
    using = rooms_importing("eventstore.parking.record", "eventstore.parking.park")
    parking = {f"eventstore.{each}" for each in ("commands", "subscribers", "delegation")}
    assert using == {"eventstore.parking", *parking}


def test_store_alone_writes_the_log_and_the_feed_alone_the_event_stream() -> None:
    """Several messages, or one on a condition, are published by nobody else."""
    names = {module: set(imported_names(module)) for module in sources()}
    writing = {
        module
        for module in sources()
        if "eventstore.jetstream.publish" in imports(module)
        and names[module] & {"guarded", "publish", "read_ack"}
    }
    assert writing == {
        "eventstore.store.log_writer",
        "eventstore.projections.feed.feed",
        "eventstore.projections.feed.missing",  # while no feed runs
        "eventstore.transfer.sender",  # into an empty log
    }


def test_snapshots_is_the_only_room_that_uses_their_bucket() -> None:
    named = rooms_naming("snapshot_bucket")
    # One declares it, the other copies it as it is.
    assert named == {"eventstore.store", "eventstore.jetstream", "eventstore.backup"}


def test_backup_is_the_only_room_that_copies_whole_streams() -> None:
    using = {
        room(module)
        for module in sources()
        if "eventstore.jetstream.stream_snapshot" in imports(module)
    }
    assert using == {"eventstore.backup"}


def test_the_write_side_knows_nothing_of_service() -> None:
    write_side = {f"eventstore.{each}" for each in ("store", "commands", "subscribers", "parking")}
    assert rooms_importing("eventstore.service").isdisjoint(write_side)


@pytest.mark.parametrize("name", ["subscribers", "processes", "audit", "deployment"])
def test_rooms_that_publish_nothing(name: str) -> None:
    for module in sources():
        if room(module) == f"eventstore.{name}":
            assert PUBLISHING.isdisjoint(imported_names(module)), module


def test_delegation_is_the_only_room_that_answers_below_the_api() -> None:
    naming = {
        module
        for module in sources()
        for each in constants(module)
        if isinstance(each, str) and re.search(r"(^|\.)api(\.|$)", each)
    }
    assert {each for each in naming if room(each) != "eventstore.deployment"} == {
        "eventstore.delegation.requests"
    }


def test_deployment_neither_connects_nor_waits() -> None:
    for module in sources():
        if room(module) == "eventstore.deployment":
            assert not [each for each in imports(module) if each.startswith("eventstore.client")]
            assert NOT_PURE.isdisjoint(imports(module))


def test_projections_is_the_only_room_that_needs_sqlalchemy() -> None:
    needing = rooms_importing("sqlalchemy", "alembic")
    # The application only names the type of its tables.
    assert needing == {
        *("eventstore.projections", "eventstore.application"),
        *("projections", "eventstore.cli"),
    }


def test_components_are_put_together_in_one_place() -> None:
    # The command line opens the log, and an embedded server, without a service; so do tests. The
    # blocking facade opens a store for a program that has no event loop to open one in.
    others = {"eventstore.cli", "eventstore.pytest_plugin", "eventstore.sync"}
    assert rooms_constructing(*COMPONENTS) == {"eventstore.application", *others}


def test_cli_is_the_only_room_that_prints() -> None:
    assert rooms_importing("typer", "rich", "click") == {"eventstore.cli"}
    printing = rooms_naming("stdout") | rooms_naming("stderr")
    # The application says that it stops; the server reads what its process prints.
    assert printing == {"eventstore.cli", "eventstore.application", "eventstore.server"}
