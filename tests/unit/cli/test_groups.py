"""Groups are lazy: help imports no subcommand, and a subcommand imports no other group."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib import import_module

import pytest

from eventstore.cli.app import GROUPS, SUBCOMMANDS
from eventstore.cli.groups import python_name

TABLES = {"commands": SUBCOMMANDS, **{name: each.subcommands for name, each in GROUPS.items()}}
LISTED = [(package, name) for package, table in TABLES.items() for name in table]


def imported_by(*words: str) -> set[str]:
    """The modules that are imported when the subcommand runs, in a process of its own."""
    program = (
        "import sys\n"
        "from eventstore.cli import main\n"
        f"sys.argv = ['eventstore', *{words!r}]\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    print(*sys.modules, file=sys.stderr)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30
    )
    return set(ended.stderr.split())


@pytest.mark.parametrize(("package", "name"), LISTED)
def test_the_one_line_help_is_the_first_line_of_the_docstring(package: str, name: str) -> None:
    module = import_module(f"eventstore.cli.{package}.{python_name(name)}")
    found = getattr(module, python_name(name))

    documented = found().info.help if name == "query" else inspect.getdoc(found)
    assert TABLES[package][name] == str(documented).partition("\n")[0]


@pytest.mark.parametrize("words", [(), ("audit",), ("projection",)])
def test_help_imports_no_subcommand(words: tuple[str, ...]) -> None:
    found = imported_by(*words, "--help")

    assert {each for each in found if each.startswith("eventstore.cli.")} == {
        "eventstore.cli.app",
        "eventstore.cli.applications",
        "eventstore.cli.groups",
    }
    assert {"rich", "sqlalchemy", "projections"}.isdisjoint(found)


def test_a_subcommand_imports_no_other_and_no_read_side() -> None:
    found = imported_by("send", "--help")

    commands = {each for each in found if each.startswith("eventstore.cli.commands.")}
    assert commands == {"eventstore.cli.commands.send"}
    assert {"sqlalchemy", "projections", "eventstore.projections"}.isdisjoint(found)
