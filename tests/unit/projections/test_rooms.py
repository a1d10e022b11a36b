"""What the rooms of the read side say of themselves: who alone may do what."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.unit.test_architecture import imports, sources

PREFIX = "eventstore.projections."


def rooms_that_import(*names: str) -> set[str]:
    return {
        module.split(".")[2]
        for module in sources()
        if module.startswith(PREFIX) and not set(names).isdisjoint(imports(module))
    }


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Every call in the read side, with the module it is in."""
    for module, source in sources().items():
        if module.startswith(PREFIX):
            yield from ((module, node) for node in ast.walk(source) if isinstance(node, ast.Call))


def rooms_that_call(*names: str) -> set[str]:
    return {module.split(".")[2] for module, call in calls() if called(call) in names}


def called(call: ast.Call) -> str:
    """The name of what is called, without what it belongs to."""
    return ast.unparse(call.func).rpartition(".")[2]


def own_tables(module: str) -> set[str]:
    """The names of the library's own tables in a module."""
    return {
        alias.asname or alias.name
        for node in ast.walk(sources()[module])
        if isinstance(node, ast.ImportFrom) and node.module == f"{PREFIX}database.tables"
        for alias in node.names
    }


def test_the_read_side_does_not_append() -> None:
    appending = ("append", "appender", "event_encoder", "log_writer", "pending_append")
    assert rooms_that_import(*(f"eventstore.store.{each}" for each in appending)) == set()


def test_only_the_room_of_the_database_changes_the_librarys_own_tables() -> None:
    """A rebuild copies what was parked, as it copies rows."""
    changing = {
        module.split(".")[2]
        for module, call in calls()
        if ast.unparse(call.func) in {"insert", "update", "delete"}
        and ast.unparse(call.args[0]) in own_tables(module)
    }
    assert changing == {"database"}


def test_only_the_room_of_the_database_opens_one() -> None:
    """A scenario has one in memory."""
    opening = {
        module.split(".")[2]
        for module, call in calls()
        if ast.unparse(call.func)
        in {"create_engine", "create_async_engine", "Sqlite", "Postgresql"}
    }
    assert opening == {"database", "testing"}
    assert rooms_that_import("asyncpg") == {"database"}


def test_queries_only_read() -> None:
    writing = {"delete", "insert", "transact", "update"}
    assert "queries" not in {
        module.split(".")[2] for module, call in calls() if called(call) in writing
    }


def test_only_the_worker_moves_checkpoints_forward() -> None:
    assert rooms_that_call("move_all") == {"worker"}


def test_only_a_rebuild_replaces_rows() -> None:
    assert rooms_that_call("take_over") - {"feed"} == {"rebuild"}


def test_only_the_feed_publishes() -> None:
    publishing = ("eventstore.jetstream.publish", "eventstore.jetstream.key_value")
    assert rooms_that_import(*publishing) == {"feed"}


def test_only_the_audit_index_reads_outcomes_of_commands() -> None:
    assert rooms_that_import("eventstore.commands.outcome_log") == {"audit"}
