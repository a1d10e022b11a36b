"""What is mutated, and which tests are asked: names only, so that modules may move.

The one place to edit when modules are renamed; a test sees that every name here is one of a module.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["core_modules", "test_arguments"]

PACKAGES = ("eventstore", "projections")
"""Where the modules are, at whatever depth."""

CORE = (
    # append, read
    *(
        "store/appender",
        "store/log_writer",
        "store/append_search",
        "store/append",
        "store/pending_append",
        "store/event_encoder",
        "store/head",
        "store/store",
    ),
    *("store/reader", "store/aggregate_reading", "store/log", "store/batches"),
    *("jetstream/publish", "jetstream/direct_get"),
    # what is written, and that it can be trusted
    *("messages/envelope", "messages/headers", "messages/codec", "messages/upcasting"),
    "messages/chain",
    *("store/chain_links", "eventstore/audit/verify", "audit/chain_check"),
    # decide
    *("decider/decider", "commands/handler", "commands/decoding", "commands/deduplication"),
    *("commands/loader", "commands/outcomes", "messages/outcome", "commands/client"),
    *("commands/composer", "commands/sent"),
    *("commands/state_cache", "commands/worker", "concurrency/keyed", "snapshots/format"),
    # deliveries
    *("jetstream/consumer", "jetstream/acks", "subscribers/delivery"),
    # projections and the feed
    *("feed/feed", "feed/position", "database/checkpoint", "worker/worker", "worker/batches"),
    *("worker/apply", "queries/waiting"),
)
"""The ends of the paths of the modules on which what the library promises depends."""

TESTS = ("tests/unit", "tests/integration")
"""The tests that are asked."""

NOT_ASKED = (
    # They run processes of their own, in which nobody sees what is reached.
    *("tests/unit/cli/*", "tests/integration/cli/*", "*/test_readme.py", "*/server/*"),
    # They look at the source, or at what does not depend on the core.
    *("*/test_architecture.py", "*/test_public_api.py", "*/test_packaging.py", "*/test_config.py"),
    *("tests/unit/nix/*", "tests/unit/mutation/*", "*/test_postgresql.py"),
)
"""Patterns of files of tests that are not."""

DESELECTED = "not postgresql"
"""What pytest's -k says: the same tests run on SQLite."""


def core_modules(tree: Path) -> list[str]:
    """The files of the core modules, relative to the project's directory."""
    files = (file for package in PACKAGES for file in (tree / package).rglob("*.py"))
    return sorted(
        str(file.relative_to(tree))
        for file in files
        if file.with_suffix("").as_posix().endswith(CORE) and "cli" not in file.parts
    )


def test_arguments() -> list[str]:
    """Which tests pytest is to run."""
    return [*TESTS, *(f"--ignore-glob={each}" for each in NOT_ASKED), "-k", DESELECTED]
