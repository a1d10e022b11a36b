"""The files of a new project: an application with one example of each part, and its tests."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.metadata import version
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import PurePosixPath

from eventstore.errors import ConfigurationError

__all__ = ["project_files"]

_NAME = re.compile(r"[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*")
_MAX_NAME = 40
_TEMPLATE = ".tmpl"


def project_files(name: str) -> Mapping[PurePosixPath, str]:
    """The files of a new project by their paths within its folder.

    `name` is that of the application, and so the first token of its subjects; with underscores it
    is the package's. Raises `ConfigurationError` for a name that cannot be both.
    """
    if not _NAME.fullmatch(name) or len(name) > _MAX_NAME:
        raise ConfigurationError(
            f"{name!r} cannot name a project: up to {_MAX_NAME} of a-z, 0-9, '-' and '_', a letter "
            "first, such as shop"
        )
    package = name.replace("-", "_")
    if package in {"eventstore", "projections", "tests"}:
        raise ConfigurationError(f"{name!r} is the name of another package: choose another one")
    values = {"name": name, "package": package, "release": version("jetstream-eventstore")}
    found = _templates(files(__name__) / "project", PurePosixPath())
    return {_path(path, package): _filled(text, values) for path, text in found.items()}


def _templates(folder: Traversable, path: PurePosixPath) -> dict[PurePosixPath, str]:
    found: dict[PurePosixPath, str] = {}
    for each in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if each.is_dir():
            found |= _templates(each, path / each.name)
        elif each.name.endswith(_TEMPLATE):
            found[path / each.name.removesuffix(_TEMPLATE)] = each.read_text(encoding="utf-8")
    return found


def _path(path: PurePosixPath, package: str) -> PurePosixPath:
    first, *rest = path.parts
    names = {"package": package, "gitignore": ".gitignore"}
    return PurePosixPath(names.get(first, first), *rest)


def _filled(text: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(f"{{{{{name}}}}}", value)
    return text
