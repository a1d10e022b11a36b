"""A Sphinx extension: the reference pages that follow from the code.

Before each build it writes `docs/reference/generated`: one page for each package with public
names, the command line, the errors and the metrics. Docstrings are Markdown, as elsewhere in the
project; they are turned into reStructuredText for autodoc.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from typer.testing import CliRunner

from eventstore import errors
from eventstore.cli.app import GROUPS, SUBCOMMANDS, app
from eventstore.service import metrics

PACKAGES = {
    "eventstore.application": "Application",
    "eventstore.decider": "Deciders",
    "eventstore.messages": "Messages",
    "eventstore.commands": "Commands",
    "eventstore.timers": "Timers",
    "eventstore.processes": "Processes",
    "eventstore.store": "Store",
    "eventstore.sync": "Blocking calls",
    "eventstore.projections": "Projections",
    "eventstore.projections.queries": "Queries",
    "eventstore.projections.database": "Database",
    "eventstore.projections.worker": "Projection worker",
    "eventstore.subscribers": "Subscribers",
    "eventstore.client": "Client",
    "eventstore.audit": "Audit",
    "eventstore.transfer": "Export, import and copy",
    "eventstore.backup": "Backups",
    "eventstore.recovery": "Recovery",
    "eventstore.parking": "Parked messages",
    "eventstore.actions": "Actions of administrators",
    "eventstore.config": "Settings",
    "eventstore.server": "Embedded server",
    "eventstore.service": "Health, discovery, metrics",
    "eventstore.delegation": "Delegation",
    "eventstore.console": "Console",
    "eventstore.deployment": "Deployment",
    "eventstore.contracts": "Contracts",
    "eventstore.testing": "Test kit",
    "eventstore.pytest_plugin": "Fixtures for pytest",
    "eventstore.telemetry": "Telemetry",
}
"""The packages that users import from, in the order of their pages."""

MODULES = {
    "eventstore.application": ["eventstore.application.service"],
    "eventstore.processes": ["eventstore.processes.testing"],
    "eventstore.projections": ["eventstore.projections.testing"],
    "eventstore.projections.worker": [
        "eventstore.projections.audit",
        "eventstore.projections.feed",
        "eventstore.projections.health",
        "eventstore.projections.rebuild",
    ],
    "eventstore.service": [
        "eventstore.service.http_server",
        "eventstore.service.metrics",
        "eventstore.service.tracing",
    ],
    "eventstore.store": ["eventstore.store.snapshots"],
    "eventstore.subscribers": ["eventstore.subscribers.testing"],
    "eventstore.timers": ["eventstore.timers.testing"],
}
"""Modules with public names of their own, shown with a package."""


OUTSIDE = {
    "SECURITY.md": "project/security.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
    "ops/README.md": "project/deployment.md",
}
"""Documents outside of this folder, and the pages that include them."""


_INLINE_CODE_IN_A_WORD = re.compile(r"(?<![`\w])`([^`\n]+)`(?=\w)")  # as in a plural
_INLINE_CODE = re.compile(r"(?<![`\w])`([^`\n]+(?:\n[^`\n]+)?)`(?![`\w])")


def setup(sphinx: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    sphinx.connect("source-read", link_to_pages)
    sphinx.connect("builder-inited", write_pages)
    sphinx.connect("autodoc-process-docstring", to_restructured_text)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def link_to_pages(_sphinx: Sphinx, name: str, source: list[str]) -> None:
    """Let links to documents outside of this folder refer to the pages that include them."""
    up = "../" * name.count("/")
    for document, page in OUTSIDE.items():
        source[0] = source[0].replace(f"({up}../{document}", f"({up}{page}")


def write_pages(sphinx: Sphinx) -> None:
    """Write all generated pages; those that did not change are left, so that they are not read."""
    target = Path(sphinx.srcdir) / "reference" / "generated"
    target.mkdir(exist_ok=True)
    pages = {f"{package}.md": package_page(package, PACKAGES[package]) for package in PACKAGES}
    pages["command-line.md"] = command_line_page()
    pages["errors.md"] = errors_page()
    pages["metrics.md"] = metrics_page()
    for name, text in pages.items():
        path = target / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
    for stale in {each.name for each in target.iterdir()} - pages.keys():
        (target / stale).unlink()


def package_page(package: str, title: str) -> str:
    """The page of a package: its docstring, and every name of its `__all__`."""
    head = f"# {title}\n\n`{package}`: {_markdown_summary(package)}\n\n"
    return head + "".join(_directive(module, name) for module, name in _public(package))


def _markdown_summary(package: str) -> str:
    text = inspect.getdoc(importlib.import_module(package)) or ""
    return text.partition("\n\n")[0].replace("\n", " ")


def _public(package: str) -> Iterator[tuple[str, str]]:
    """The module and the name of everything public there that no earlier page has."""
    earlier = list(PACKAGES)[: list(PACKAGES).index(package)]
    seen = {id(_value(module, name)) for page in earlier for module, name in _names(page)}
    for module, name in _names(package):
        value = _value(module, name)
        if id(value) not in seen or not (inspect.isclass(value) or inspect.isroutine(value)):
            seen.add(id(value))
            yield module, name


def _names(package: str) -> Iterator[tuple[str, str]]:
    for module in (package, *MODULES.get(package, ())):
        for name in sorted(importlib.import_module(module).__all__):
            yield module, name


def _value(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


def _directive(module: str, name: str) -> str:
    value = _value(module, name)
    if inspect.isclass(value):
        kind, options = "autoclass", ":members:\n:inherited-members: Struct, Exception, object\n"
    elif inspect.isroutine(value):
        kind, options = "autofunction", ""
    else:
        kind, options = "autodata", ":no-value:\n"
    return f"```{{eval-rst}}\n.. {kind}:: {module}.{name}\n{_indented(options)}```\n\n"


def _indented(options: str) -> str:
    return "".join(f"   {line}\n" for line in options.splitlines())


def to_restructured_text(
    _sphinx: Sphinx, what: str, _name: str, value: object, _options: object, lines: list[str]
) -> None:
    """Turn the Markdown of a docstring into reStructuredText, in place."""
    text = "\n".join(lines)
    if what == "data" and text.strip() == inspect.getdoc(type(value)):
        text = ""  # the constant has no docstring of its own
    text = _INLINE_CODE.sub(r"``\1``", text)
    text = _INLINE_CODE_IN_A_WORD.sub(r"``\1``\\ ", text)
    text = re.sub(r":\n\n(?= {4}\S)", "::\n\n", text)  # an example follows
    lines[:] = text.split("\n")


def command_line_page() -> str:
    """The help of every command, as it is printed in the terminal."""
    names = [*SUBCOMMANDS]
    names += [f"{group} {each}" for group, found in GROUPS.items() for each in found.subcommands]
    head = "# Command line\n\nWhat `eventstore COMMAND --help` prints, command by command.\n\n"
    return head + "".join(f"## {name}\n\n```text\n{_help(name)}```\n\n" for name in names)


def _help(name: str) -> str:
    shown = CliRunner(env={"COLUMNS": "80"}).invoke(app, [*name.split(), "--help"])
    return shown.stdout


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("*", "\\*")


def errors_page() -> str:
    """The tree of errors, and each with its code and what it means."""
    tree = (errors.__doc__ or "").partition("\n\n")[2].rstrip()
    head = (
        "# Errors\n\nAll errors of the library, in `eventstore.errors`. `code` is what an outcome, "
        "an answer and a log line carry; `retryable` says whether a retry can help.\n\n"
        f"```text\n{tree}\n```\n\n| error | code | a retry can help | |\n|---|---|---|---|\n"
    )
    return head + "".join(map(_error_row, errors.__all__))


def _error_row(name: str) -> str:
    error = getattr(errors, name)
    retry = "yes" if getattr(error, "retryable", False) else "no"
    meaning = (inspect.getdoc(error) or "").partition("\n\n")[0]
    return f"| `{name}` | `{error.code}` | {retry} | {_cell(meaning)} |\n"


def metrics_page() -> str:
    """Every metric of `/metrics`, as an instance without any activity declares it."""
    head = (
        "# Metrics\n\nServed on `/metrics` at `operations.metrics_address`, and answered on "
        "`metrics.{domain}`, in Prometheus' text format.\n\n"
        "| metric | kind | |\n|---|---|---|\n"
    )
    text = metrics.Metrics().render().decode()
    helps = dict(re.findall(r"^# HELP (\S+) (.*)$", text, re.MULTILINE))
    kinds = re.findall(r"^# TYPE (\S+) (\w+)$", text, re.MULTILINE)
    rows = (f"| `{name}` | {kind} | {_cell(helps.get(name, ''))} |\n" for name, kind in kinds)
    return head + "".join(rows)
