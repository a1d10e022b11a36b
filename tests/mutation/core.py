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
    *("recording", "writes", "publishing", "direct", "store", "history", "raw_log"),
    # what is written, and that it can be trusted
    *("envelope", "codec", "upcasting", "chain", "chain_links", "verify", "walk"),
    # decide
    *("aggregate", "handler", "intake", "known", "lanes", "loading", "outcome", "sending"),
    *("states", "snapshot_format", "worker"),
    # deliveries
    *("pull", "settling", "attempts"),
    # projections and the feed
    *("feed", "feed_position", "checkpoint", "batches", "apply", "positions"),
)
"""The names of the modules on which what the library promises depends."""

TESTS = ("tests/unit", "tests/integration")
"""The tests that are asked."""

NOT_ASKED = (
    # They run processes of their own, in which nobody sees what is reached.
    *("tests/unit/cli/*", "*/test_cli_*", "*/test_readme.py", "*/test_ops.py", "*/test_server.py"),
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
    return sorted(str(file.relative_to(tree)) for file in files if file.stem in CORE)


def test_arguments() -> list[str]:
    """Which tests pytest is to run."""
    return [*TESTS, *(f"--ignore-glob={each}" for each in NOT_ASKED), "-k", DESELECTED]
