"""Groups of subcommands, each of which is imported only when it is called or its help is asked.

`eventstore audit trace` is the function `trace` of the module `eventstore.cli.audit.trace`. Names
that Python has a meaning for end in an underscore: `import_`, `list_`, `set_`.
"""

from __future__ import annotations

import builtins
import keyword
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import typer
import typer.main
from msgspec import Struct
from typer.core import TyperCommand, TyperGroup


class Group(Struct, frozen=True):
    """A group's help, and the one-line help of each of its subcommands."""

    about: str
    subcommands: Mapping[str, str]


class LazyGroup(TyperGroup):
    """Lists its subcommands by their one-line help, and imports the one that is called."""

    modules: Mapping[str, str] = {}

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Replace the placeholder by the real subcommand before it is looked up."""
        if args[0] in self.modules:
            self.commands[args[0]] = _loaded(self.modules[args[0]], *args)
        return super().resolve_command(ctx, args)


def add_subcommands(group: LazyGroup, package: str, subcommands: Mapping[str, str]) -> None:
    """Add subcommands, whose modules are in the package, by their one-line help."""
    group.modules = {name: f"{package}.{python_name(name)}" for name in subcommands}
    for name, about in subcommands.items():
        group.add_command(TyperCommand(name, short_help=about, rich_markup_mode=None), name)


def python_name(name: str) -> str:
    """The name of a subcommand's module and of its function."""
    return f"{name}_" if keyword.iskeyword(name) or hasattr(builtins, name) else name


def _loaded(module: str, name: str, *words: str) -> Any:
    # It imports what subcommands need, and the help of a group does not.
    from eventstore.cli.options import as_command

    found = getattr(import_module(module), python_name(name))
    if found.__annotations__["return"] == "typer.Typer":  # a function that makes a group
        return typer.main.get_command(found(words))
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command(name)(as_command(found))
    return typer.main.get_command(app)
