"""The application that the command line works for: found, imported and checked."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from importlib import import_module
from pathlib import Path
from traceback import extract_tb

from eventstore.application import Application
from eventstore.config import Settings
from eventstore.config.environment import CONFIG
from eventstore.config.toml_file import read_toml
from eventstore.contracts import Contract, describe
from eventstore.errors import ConfigurationError

SHIPPED = "projections:app"
"""The application that ships, which is used if no other is named."""

VARIABLE = "EVENTSTORE_APP"

_named: ContextVar[str | None] = ContextVar("application", default=None)

_own: ContextVar[Application | None] = ContextVar("own", default=None)

_PROJECT = Path("pyproject.toml")
_IN_PROJECT = "tool.eventstore"
_MODULE = re.compile(r"[^./\s:][^/\s:]*")


def name_application(target: str | None) -> str | None:
    """Note what `--app` names: the callback of that option, before any subcommand is looked up."""
    _named.set(target)
    return target


def use_application(app: object) -> Application:
    """Work for this application, whatever else is named: the command line is its own."""
    assert isinstance(app, Application)  # noqa: S101  # it calls this itself
    _own.set(app)
    return app


def find_application(config_file: Path | None = None) -> Application:
    """Import the application that is named first.

    By `--app`, the variable `EVENTSTORE_APP`, `app` in the configuration file, or `app` in
    `[tool.eventstore]` of the working directory's pyproject.toml. Raises `ConfigurationError`.
    """
    if (own := _own.get()) is not None:
        return own
    for source, target in _targets(config_file):
        return load_application(target, source)
    return load_application(SHIPPED, "the application that ships")


def application_target() -> str:
    """The application as `module:object`; a program of its own does not know, and guesses."""
    if (own := _own.get()) is not None:
        return f"{own.name.replace('-', '_')}.app:app"
    return next((target for _, target in _targets(None)), SHIPPED)


def find_contract() -> Contract:
    """The contract of the application; raises `ConfigurationError`."""
    app = find_application()
    own = app.identity(Settings())
    return describe(app.domain, app.query_types, version=own.version, description=own.description)


def is_named(config_file: Path | None = None) -> bool:
    """Whether an application is named; the one that ships need not be that of the log."""
    return _own.get() is not None or next(_targets(config_file), None) is not None


def load_application(target: str, source: str) -> Application:
    """Import an application, `module:object`; modules of the working directory are found, too.

    Raises `ConfigurationError`, which begins with `source`.
    """
    module_name, _, attribute = target.partition(":")
    if not (_MODULE.fullmatch(module_name) and attribute):
        raise ConfigurationError(f"{source}: {target!r} is not of the form module:object")
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    try:
        found = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise _failed(source, target, error) from error
        raise ConfigurationError(
            f"{source}: there is no module {error.name!r} here; start in its directory, or "
            "install it"
        ) from error
    except (Exception, SystemExit) as error:
        raise _failed(source, target, error) from error
    for name in attribute.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise ConfigurationError(f"{source}: {module_name} has no {attribute}") from None
    if not isinstance(found, Application):
        kind = type(found).__name__
        raise ConfigurationError(f"{source}: {target} is not an Application, but a {kind}")
    return found


def _failed(source: str, target: str, error: BaseException) -> ConfigurationError:
    """On one line, whatever the error says, with the line of the module that raised it."""
    about = " ".join(f"{type(error).__name__}: {error}".split())
    frames = [each for each in extract_tb(error.__traceback__) if each.filename[0] != "<"]
    if len(frames) > 2 and not isinstance(error, SyntaxError):  # which names its line itself
        about += f" ({frames[-1].filename}, line {frames[-1].lineno})"
    return ConfigurationError(f"{source}: importing {target} failed: {about}")


def _targets(config_file: Path | None) -> Iterator[tuple[str, str]]:
    if (named := _named.get()) is not None:
        yield "--app", named
    if os.environ.get(VARIABLE):
        yield VARIABLE, os.environ[VARIABLE]
    configured, origin = config_file, ""
    if configured is None and (named := os.environ.get(CONFIG)):
        configured, origin = Path(named), f" (named by {CONFIG})"
    if configured is not None and (target := read_toml(configured, origin).get("app")) is not None:
        yield f"{configured}: app", _checked(target, f"{configured}: app")
    if _PROJECT.is_file() and (target := _in_project(read_toml(_PROJECT))) is not None:
        yield f"{_PROJECT}: {_IN_PROJECT}.app", _checked(target, f"{_PROJECT}: {_IN_PROJECT}.app")


def _in_project(project: Mapping[str, object]) -> object:
    """`app` in `[tool.eventstore]`; raises `ConfigurationError` if there is something else."""
    tools = project.get("tool", {})
    table = tools.get("eventstore", {}) if isinstance(tools, dict) else tools
    if not isinstance(table, dict):
        raise ConfigurationError(f"{_PROJECT}: {_IN_PROJECT} is no table: write [{_IN_PROJECT}]")
    for key in sorted(table.keys() - {"app"}):
        raise ConfigurationError(f"{_PROJECT}: {_IN_PROJECT}.{key} is not known; it has only app")
    return table.get("app")


def _checked(target: object, source: str) -> str:
    if not isinstance(target, str):
        raise ConfigurationError(f'{source} is not a string: write app = "module:object"')
    return target
