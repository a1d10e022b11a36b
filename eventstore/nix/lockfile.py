"""Lock files of flakes: read a `flake.lock`, and convert it into commands.

The import is idempotent: ids are derived from what is imported, so the same lock file gives the
same commands, and a command is carried out once. Of a changed lock file, the differences from the
flake are imported.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from eventstore import Command
from eventstore.errors import InvalidLockFile
from eventstore.messages import UNDECODABLE, derive_id
from eventstore.nix.flake import AddFlakeInput, CreateFlake, RemoveFlakeInput
from eventstore.nix.reference import Attributes, flake_reference

MAX_BYTES = 16 * 1024 * 1024
VERSIONS = (5, 6, 7)
MAX_FOLLOWS = 100  # steps from follows to follows; real files have one or two

_NAMESPACE = "0f5c3a52-6c0e-5d3b-9f2e-6f1d3a6f7c41"  # never changes: imported ids depend on it
_FILE_NAME = re.compile(r"(.+)[_-]flake\.lock", re.DOTALL)


class LockedInput(Struct, frozen=True):
    """An input of the flake itself, and the flake reference it is locked to."""

    name: str
    url: str


class LockFile(Struct, frozen=True):
    """The contents of a lock file; the inputs are in the file's order."""

    flake_path: str
    inputs: list[LockedInput]


class ImportedCommand(Struct, frozen=True):
    """A command of an import, with the ids that make it idempotent."""

    aggregate_id: str
    command_id: str
    command: Command


def samples() -> list[Path]:
    """Lock files of real flakes that ship with the library."""
    return sorted(Path(__file__).with_name("samples").glob("*.lock"))


def import_commands(path: str | Path, *, name: str | None = None) -> list[ImportedCommand]:
    """The commands that register a lock file's flake: one CreateFlake, then its inputs.

    The aggregate's id is derived from the flake's name alone, and each command's id from the
    aggregate's id and the command, so importing the file again gives the same commands. For a
    flake that exists already, `change_commands` gives the differences. Raises `InvalidLockFile`.
    """
    lock = read_lock_file(path, name=name)
    aggregate_id = derive_id(_NAMESPACE, lock.flake_path)
    created = CreateFlake(path=lock.flake_path, description="Imported from a lock file")
    adding = (AddFlakeInput(name=each.name, url=each.url) for each in lock.inputs)
    commands: list[Command] = [created, *adding]
    return [_imported(aggregate_id, command) for command in commands]


def change_commands(
    imported: Sequence[ImportedCommand], current: Mapping[str, str], version: int
) -> list[ImportedCommand]:
    """The commands of an import that a flake at `version` with the inputs `current` still needs.

    `imported` is the result of `import_commands`, `current` maps the names of inputs to their urls.
    Inputs that are missing in the file are removed, those whose url changed are removed and added,
    new ones are added; unchanged inputs and the flake's creation need no command. The ids depend on
    the version, too, so that an input that was removed can be added again; on the same version the
    commands are the same.
    """
    adding = [each.command for each in imported if isinstance(each.command, AddFlakeInput)]
    names = {command.name for command in adding}
    gone = [name for name in current if name not in names]
    commands: list[Command] = [RemoveFlakeInput(name=name) for name in gone]
    for command in adding:
        if command.name in current and current[command.name] != command.url:
            commands.append(RemoveFlakeInput(name=command.name))
        if current.get(command.name) != command.url:
            commands.append(command)
    aggregate_id = imported[0].aggregate_id
    return [_imported(aggregate_id, command, version) for command in commands]


def read_lock_file(path: str | Path, *, name: str | None = None) -> LockFile:
    """Read a `flake.lock` of version 5, 6 or 7.

    A lock file does not name its flake. The flake's path is `name` if given; else X for a file
    named `X_flake.lock` or `X-flake.lock`; else the name of the directory of a `flake.lock`; else
    the file's name without its suffix. It is a name, not a location in the file system, so that the
    same file means the same flake on every machine and from every working directory.

    Raises `InvalidLockFile`, naming the file and what is wrong with it.
    """
    file = Path(path)
    graph = _Graph(file, _parse(file, _read(file)))
    return LockFile(_flake_path(file, name), graph.inputs())


def _imported(aggregate_id: str, command: Command, version: int = 1) -> ImportedCommand:
    """A command with its ids; those of a flake that was just created do not name its version."""
    payload = msgspec.json.encode(command).decode()
    described = f"{type(command).__name__} {payload}"
    if version > 1:
        described = f"{described} at {version}"
    return ImportedCommand(aggregate_id, derive_id(aggregate_id, described), command)


def _flake_path(file: Path, name: str | None) -> str:
    found = _name_of(file) if name is None else name
    if not found.strip():
        raise InvalidLockFile(file, "the flake's name is empty; give one")
    try:
        found.encode()
    except UnicodeEncodeError as error:
        raise InvalidLockFile(
            file, f"the flake's name {found!r} is not Unicode; give another"
        ) from error
    return found


def _name_of(file: Path) -> str:
    prefixed = _FILE_NAME.fullmatch(file.name)
    if prefixed is not None:
        return prefixed[1]
    return file.absolute().parent.resolve().name if file.name == "flake.lock" else file.stem


def _read(file: Path) -> bytes:
    try:
        if file.exists() and not file.is_file():
            raise InvalidLockFile(file, "it is not a regular file")
        with file.open("rb") as opened:
            content = opened.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise InvalidLockFile(file, f"it cannot be read: {error}") from error
    if len(content) > MAX_BYTES:
        raise InvalidLockFile(file, f"it has more than {MAX_BYTES:,} bytes")
    return content


class _Version(Struct):
    version: int


class _Node(Struct):
    inputs: dict[str, str | list[str]] = {}
    locked: Attributes | None = None
    info: Attributes = {}  # version 5 keeps the hash here


class _Lock(Struct):
    nodes: dict[str, _Node]
    root: str


def _parse(file: Path, content: bytes) -> _Lock:
    try:
        version = msgspec.json.decode(content, type=_Version).version
        if version not in VERSIONS:
            known = ", ".join(map(str, VERSIONS))
            raise InvalidLockFile(file, f"it has version {version}; known are {known}")
        return msgspec.json.decode(content, type=_Lock)
    except UNDECODABLE as error:
        raise InvalidLockFile(file, f"it is not a lock file: {error}") from error


class _Graph:
    """The nodes of a lock file, resolved from its root."""

    def __init__(self, file: Path, lock: _Lock) -> None:
        self._file = file
        self._lock = lock
        self._root = self._node(lock.root)
        self._followed: dict[tuple[str, ...], str] = {}

    def inputs(self) -> list[LockedInput]:
        """The root's inputs; raises `InvalidLockFile` if one cannot be resolved.

        One that follows the root itself (`follows = ""`) is no input of another flake.
        """
        found = (self._input(name) for name in self._root.inputs)
        return [each for each in found if each is not None]

    def _input(self, name: str) -> LockedInput | None:
        if not name.strip():
            raise self._invalid("an input's name is empty")
        key = self._target(self._lock.root, name, ())
        if key == self._lock.root:
            return None
        node = self._node(key)
        if node.locked is None:
            raise self._invalid(f"input {name!r} is not locked")
        try:
            return LockedInput(name, flake_reference({**node.locked, **node.info}))
        except ValueError as error:
            raise self._invalid(f"input {name!r}: {error}") from error

    def _target(self, key: str, name: str, trail: tuple[tuple[str, ...], ...]) -> str:
        """The key of the node that an input of a node refers to."""
        target = self._node(key).inputs.get(name)
        if target is None:
            raise self._invalid(f"node {key!r} has no input {name!r}")
        return target if isinstance(target, str) else self._follow(tuple(target), trail)

    def _follow(self, path: tuple[str, ...], trail: tuple[tuple[str, ...], ...]) -> str:
        """The key of the node that a `follows` path refers to, from the root."""
        if path in self._followed:
            return self._followed[path]
        text = "/".join(path)
        if path in trail:
            raise self._invalid(f"follows {text!r} leads back to itself")
        if len(trail) == MAX_FOLLOWS:
            raise self._invalid(f"follows {text!r} is more than {MAX_FOLLOWS} steps away")
        key = self._lock.root
        for name in path:
            key = self._target(key, name, (*trail, path))
        self._followed[path] = key
        return key

    def _node(self, key: str) -> _Node:
        node = self._lock.nodes.get(key)
        if node is None:
            raise self._invalid(f"node {key!r} is missing")
        return node

    def _invalid(self, problem: str) -> InvalidLockFile:
        return InvalidLockFile(self._file, problem)
