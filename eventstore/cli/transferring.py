"""`eventstore export`, `import` and `copy`: a whole store as a file, and back."""

from __future__ import annotations

import asyncio
import importlib
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from eventstore.cli.connecting import connected
from eventstore.cli.loop import run
from eventstore.cli.options import VAR, ConfigFile, Directory, NatsUrl, client_settings
from eventstore.cli.progress import events_bar
from eventstore.cli.terminal import Terminal, program
from eventstore.config import Settings
from eventstore.errors import ConfigurationError
from eventstore.messages.subjects import Subjects
from eventstore.transfer import (
    CopiedEvent,
    CopySummary,
    ExportSummary,
    ImportSummary,
    copy,
    export_log,
    export_to,
    import_log,
)
from eventstore.transfer.copier import Transform
from eventstore.transfer.file_writer import part_of

__all__ = ["copy_file", "export_file", "import_file"]

_Continue = Annotated[bool, typer.Option("--continue", help="Go on with one that was interrupted.")]


def export_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new one, or - for stdout.")],
    resume: _Continue = False,
    nats_url: NatsUrl = None,
    config: ConfigFile = None,
    directory: Directory = VAR,
) -> None:
    """Write all events of the log to a file: compressed lines of JSON, with checksums.

    It is the log as it is when the export begins, whoever appends meanwhile, with messages that the
    store did not write. Until it is whole the file is called FILE.part. Commands, outcomes, parked
    messages, configuration and the keys of personal data are not part of it. Ends with status 0,
    or 2 for an error.
    """
    settings = client_settings(nats_url, config, directory)
    to_stdout = str(file) == "-"
    if to_stdout and resume:
        raise typer.BadParameter("a pipe cannot be continued", param_hint="--continue")
    console = Terminal(stderr=to_stdout)
    began = time.monotonic()
    done = run(_export(settings, None if to_stdout else file, resume=resume))
    seconds = time.monotonic() - began
    console.print(f"{done.events:,} events written to {file} in {seconds:.1f} s", soft_wrap=True)
    console.print(f"  up to position {done.position}, sum {done.sum}", soft_wrap=True)


def import_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What export or copy wrote.")],
    resume: _Continue = False,
    without_keys: Annotated[
        bool,
        typer.Option("--without-keys", help="Although keys of personal data are not there yet."),
    ] = False,
    foreign: Annotated[
        bool,
        typer.Option("--foreign", help="Also what is no event of the store, as it stands."),
    ] = False,
    nats_url: NatsUrl = None,
    config: ConfigFile = None,
    directory: Directory = VAR,
) -> None:
    """Record all events of a file in a log that is empty, byte for byte as they were.

    All of the file is checked first: its sums, the events' subjects, envelopes and chains, and that
    they can be sent; with --foreign, headers that cannot be are left out and counted. Until the
    import is whole nobody else can write to the log, and no service starts on it. With --continue
    the log may hold what the file begins with. Commands, outcomes, parked messages, configuration
    and the keys of personal data are not part of it. Ends with status 0, or 2 for an error.
    """
    settings = client_settings(nats_url, config, directory)
    began = time.monotonic()
    done = run(_import(settings, file, resume=resume, without_keys=without_keys, foreign=foreign))
    new = done.events - done.before
    seconds = time.monotonic() - began
    console = Terminal()
    console.print(f"{new:,} events imported from {file} in {seconds:.1f} s", soft_wrap=True)
    if done.before:
        console.print(f"  {done.before:,} stood there before", soft_wrap=True)
    if done.stripped:
        console.print(f"  without headers that cannot be sent: {done.stripped:,}", soft_wrap=True)


def copy_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What export or copy wrote.")],
    target: Annotated[Path, typer.Argument(metavar="NEWFILE", help="A new one.")],
    function: Annotated[
        str | None,
        typer.Option(
            "--with",
            metavar="MODULE:FUNCTION",
            help="What each event becomes; found from this folder too.",
        ),
    ] = None,
    domain: Annotated[
        str | None, typer.Option("--as", metavar="DOMAIN", help="The copy's domain.")
    ] = None,
    without_foreign: Annotated[
        bool,
        typer.Option("--without-foreign", help="Leave out messages the store did not write."),
    ] = False,
) -> None:
    """Write a copy of an export in which events are renamed, split, dropped or masked.

    The function is given each event and returns it, a changed one, a list, or None. Versions,
    positions and chain values are made anew; each event that is not what it was names the
    function and the original in the header X-Transformed. Ends with status 0, or 2 for an error.
    """
    if function is None and domain is None and not without_foreign:
        raise typer.BadParameter("name a function, or another domain", param_hint="--with")
    transform = _unchanged if function is None else _load(function)
    name = function or ("without-foreign" if domain is None else f"domain:{domain}")
    done = run(_copy(file, target, transform, name, domain, without_foreign=without_foreign))
    _print_copied(Terminal(), done, target)


async def _export(settings: Settings, file: Path | None, *, resume: bool) -> ExportSummary:
    subjects = Subjects(settings.nats.subject_prefix)
    console = Terminal(stderr=True)
    try:
        with events_bar(console, "exporting") as moved:
            async with connected(settings) as client:
                if file is None:
                    return await export_to(client, subjects, sys.stdout.buffer, moved)
                return await export_log(client, subjects, file, resume=resume, progress=moved)
    except asyncio.CancelledError:
        if file is not None and part_of(file).exists():
            _print_goes_on(console, "written", f"export {file}")
        raise


async def _import(
    settings: Settings, file: Path, *, resume: bool, without_keys: bool, foreign: bool
) -> ImportSummary:
    subjects = Subjects(settings.nats.subject_prefix)
    console = Terminal(stderr=True)
    doing = "checking"
    try:
        with events_bar(console, "checking") as moved:

            def progress(what: str, done: int, total: int) -> None:
                nonlocal doing
                doing = what
                moved(done, total, what)

            async with connected(settings) as client:
                return await import_log(
                    client,
                    subjects,
                    settings.streams,
                    file,
                    resume=resume,
                    without_keys=without_keys,
                    foreign=foreign,
                    progress=progress,
                )
    except asyncio.CancelledError:
        if doing != "checking":
            _print_goes_on(console, "imported", f"import {file}")
        raise


def _print_goes_on(console: Console, done: str, words: str) -> None:
    """Say what an interrupted transfer has left."""
    goes_on = f"what was {done} is kept: `{program()} {words} --continue` goes on with it"
    console.print(goes_on, soft_wrap=True)


async def _copy(
    file: Path,
    target: Path,
    transform: Transform,
    name: str,
    domain: str | None,
    *,
    without_foreign: bool,
) -> CopySummary:
    with events_bar(Terminal(stderr=True), "copying") as moved:
        return await copy(
            file,
            target,
            transform,
            name=name,
            domain=domain,
            without_foreign=without_foreign,
            progress=moved,
        )


def _unchanged(event: CopiedEvent) -> CopiedEvent:
    return event


def _load(name: str) -> Transform:
    """The function that `module:function` names; the current folder counts too."""
    module_name, _, function_name = name.partition(":")
    if not module_name or not function_name:
        raise ConfigurationError(f"--with {name} is not to be had: write MODULE:FUNCTION")
    sys.path.insert(0, "")
    try:
        found: object = importlib.import_module(module_name)
        for part in function_name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(f"--with {name} is not to be had: {error}") from error
    except Exception as error:  # whatever a module does when it is imported
        what = f"{type(error).__name__}: {error}"
        raise ConfigurationError(f"--with {name}: {module_name} fails: {what}") from error
    finally:
        sys.path.remove("")
    if not callable(found):
        raise ConfigurationError(f"--with {name} is no function")
    return found


def _print_copied(console: Console, done: CopySummary, target: Path) -> None:
    console.print(f"{done.before:,} events became {done.after:,} in {target}", soft_wrap=True)
    if done.foreign:
        console.print(f"  left out, not the store's: {done.foreign:,}", soft_wrap=True)
    for what, counts in (
        ("renamed", done.renamed),
        ("split", done.split),
        ("dropped", done.dropped),
        ("masked", done.masked),
    ):
        if listed := _listed(counts):
            console.print(f"  {what}: {listed}", soft_wrap=True)


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in sorted((+counts).items()))
