"""The files of a new project: an application with one example of each part, and its tests."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import PurePosixPath

from eventstore.deployment.templates import filled_templates
from eventstore.errors import ConfigurationError

__all__ = ["project_files"]

_NAME = re.compile(r"[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*")
_MAX_NAME = 40


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
    return filled_templates(__name__, "project", values)
