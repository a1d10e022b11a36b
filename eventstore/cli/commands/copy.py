"""`eventstore copy`: write a transformed copy of an export."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from eventstore import transfer
from eventstore.cli.options import Json
from eventstore.cli.output.progress import events_bar
from eventstore.cli.output.terminal import Terminal, say_json
from eventstore.errors import ConfigurationError
from eventstore.messages.text import counted
from eventstore.transfer import CopySummary
from eventstore.transfer.transformation import Transform


async def copy(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that export or copy wrote.")],
    target: Annotated[Path, typer.Argument(metavar="NEWFILE", help="The file to create.")],
    function: Annotated[
        str | None,
        typer.Option(
            "--with",
            metavar="MODULE:FUNCTION",
            help="The transformation, also from a module in this folder.",
        ),
    ] = None,
    domain: Annotated[
        str | None, typer.Option("--as", metavar="DOMAIN", help="The copy's domain.")
    ] = None,
    without_foreign: Annotated[
        bool,
        typer.Option("--without-foreign", help="Leave out messages the store did not write."),
    ] = False,
    json: Json = False,
) -> None:
    """Write a transformed copy of an export.

    Events can be renamed, split, dropped or masked: the function takes each event and returns it,
    a changed one, a list, or None. Versions, positions and chain values are computed from scratch;
    each event that was changed names the function and the original in the header X-Transformed.
    Ends with status 0, or 2 for an error.
    """
    if function is None and domain is None and not without_foreign:
        raise typer.BadParameter("name a function, or another domain", param_hint="--with")
    transform: Transform = (lambda event: event) if function is None else _load(function)
    with events_bar(Terminal(stderr=True), "copying") as advance:
        done = await transfer.copy(
            file,
            target,
            transform,
            name=function or ("without-foreign" if domain is None else f"domain:{domain}"),
            domain=domain,
            without_foreign=without_foreign,
            progress=advance,
        )
    if json:
        say_json({"file": str(target), **msgspec.to_builtins(done)})
    else:
        _print_copied(Terminal(), done, target)


def _load(name: str) -> Transform:
    """The function named as `module:function`; the current directory is searched, too."""
    module_name, _, function_name = name.partition(":")
    if not module_name or not function_name:
        raise ConfigurationError(f"--with {name} cannot be loaded: write MODULE:FUNCTION")
    sys.path.insert(0, "")
    try:
        found: object = importlib.import_module(module_name)
        for part in function_name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(f"--with {name} cannot be loaded: {error}") from error
    except Exception as error:  # whatever a module does when it is imported
        what = f"{type(error).__name__}: {error}"
        raise ConfigurationError(f"--with {name}: {module_name} fails: {what}") from error
    finally:
        sys.path.remove("")
    if not callable(found):
        raise ConfigurationError(f"--with {name} is not a function")
    return found


def _print_copied(terminal: Terminal, done: CopySummary, target: Path) -> None:
    terminal.print_line(f"{counted(done.before, 'event')} became {done.after:,} in {target}")
    if done.foreign:
        terminal.print_line(f"  left out, not the store's: {done.foreign:,}")
    for what in ("renamed", "split", "dropped", "masked"):
        counts = sorted((+getattr(done, what)).items())
        if listed := [f"{count:,} {name}" for name, count in counts]:
            terminal.print_line(f"  {what}: {', '.join(listed)}")
