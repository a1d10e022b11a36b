"""The application that the command line works for: found, imported and checked."""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Iterator
from contextvars import ContextVar
from importlib import import_module
from pathlib import Path

from eventstore.application import Application
from eventstore.errors import ConfigurationError

SHIPPED = "projections:app"
"""The application that ships, which is used if no other is named."""

VARIABLE = "EVENTSTORE_APP"

_named: ContextVar[str | None] = ContextVar("application", default=None)

_own: ContextVar[Application | None] = ContextVar("own", default=None)

_PROJECT = Path("pyproject.toml")


def name_application(target: str | None) -> str | None:
    """Note what `--app` names: the callback of that option, before any subcommand is looked up."""
    _named.set(target)
    return target


def use_application(app: object) -> None:
    """Work for this application, whatever else is named: the command line is its own."""
    assert isinstance(app, Application)  # noqa: S101  # it calls this itself
    _own.set(app)


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


def is_named(config_file: Path | None = None) -> bool:
    """Whether an application is named; the one that ships need not be that of the log."""
    return _own.get() is not None or next(_targets(config_file), None) is not None


def load_application(target: str, source: str) -> Application:
    """Import an application, `module:object`; modules of the working directory are found, too.

    Raises `ConfigurationError`, which begins with `source`.
    """
    module_name, colon, attribute = target.partition(":")
    if not (module_name and colon and attribute):
        raise ConfigurationError(f"{source}: {target!r} is not of the form module:object")
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise _failed(source, target, error) from error
        raise ConfigurationError(
            f"{source}: there is no module {error.name!r} here; start in its directory, or "
            "install it"
        ) from error
    except Exception as error:
        raise _failed(source, target, error) from error
    found = module
    for name in attribute.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise ConfigurationError(f"{source}: {module_name} has no {attribute}") from None
    if not isinstance(found, Application):
        kind = type(found).__name__
        raise ConfigurationError(f"{source}: {target} is not an Application, but a {kind}")
    return found


def _failed(source: str, target: str, error: Exception) -> ConfigurationError:
    about = f"{type(error).__name__}: {error}"
    return ConfigurationError(f"{source}: importing {target} failed: {about}")


def _targets(config_file: Path | None) -> Iterator[tuple[str, str]]:
    if (named := _named.get()) is not None:
        yield "--app", named
    if os.environ.get(VARIABLE):
        yield VARIABLE, os.environ[VARIABLE]
    configured = config_file or (
        Path(os.environ["EVENTSTORE_CONFIG"]) if os.environ.get("EVENTSTORE_CONFIG") else None
    )
    if configured is not None and (target := _entry(configured, "app")) is not None:
        yield f"{configured}: app", target
    if _PROJECT.is_file() and (target := _entry(_PROJECT, "tool", "eventstore", "app")) is not None:
        yield f"{_PROJECT}: tool.eventstore.app", target


def _entry(path: Path, *keys: str) -> str | None:
    """A string in a TOML file; None if it, or the file, is not there to be read."""
    try:
        value: object = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # whoever reads the settings says so
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    if value is None:
        return None
    if not isinstance(value, str):
        raise ConfigurationError(f"{path}: {'.'.join(keys)} is not a string, as module:object is")
    return value
