"""Upcasting: events of older schema versions are converted to the current ones on reading.

The log never changes; the code has one class for each type, the newest. Upcasters bridge the
difference: pure functions from the data of one version to those of the next, run whenever an older
event is read, chained until a current class is reached.

    class FlakeCreated(Event, subject="flake.created", schema_version=3):
        path: str
        description: str        # since version 2
        tags: list[str]         # since version 3

    class FlakePathChanged(Event, subject="flake.moved"):
        path: str

    class FlakeInputAdded(Event, subject="flake.input_added"):
        name: str

    flake = Decider("flake", initial=Flake)

    @flake.upcasts("FlakeCreated", 1)                   # to version 2 of the same type
    def described(data: dict[str, Any]) -> dict[str, Any]:
        return {**data, "description": ""}

    @flake.upcasts("FlakeCreated", 2)                   # to version 3
    def tagged(data: dict[str, Any]) -> dict[str, Any]:
        return {**data, "tags": []}

    @flake.upcasts("FlakeMoved", 1, to=("FlakePathChanged", 1))         # renamed
    def path_changed(data: dict[str, Any]) -> dict[str, Any]:
        return {"path": data["to"]}

    @flake.upcasts("FlakeMade", 1, to=[("FlakeCreated", 2), ("FlakeInputAdded", 1)])    # split
    def made(data: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        yield "FlakeCreated", {"path": data["path"], "description": ""}
        for name in data["inputs"]:
            yield "FlakeInputAdded", {"name": name}

    @flake.upcasts("FlakeLookedAt", 1, to=[])           # dropped
    def looked_at(data: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        return []

A target names its version and not only its class, so that an upcaster stays correct when the class
changes again. A renamed event should keep its subject's action: then subscribers need no change.
Each upcaster gets a copy of the data, which it may modify.

All is checked when the program starts: every version since a class's first (class argument
`since`, default 1) must lead to the current one, without duplicates, cycles or unknown targets.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from eventstore.errors import DeciderError, InvalidPayload, UnsupportedSchema
from eventstore.messages.functions import is_async, name_of
from eventstore.messages.types import Event
from eventstore.messages.undecodable import STOPS, text_of

Schema = tuple[str, int]
"""The name of an event type and a version of its schema."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Upcaster(msgspec.Struct, frozen=True):
    """One step: from a version of an event type to its targets.

    The function returns the new data; if it `splits`, any number of pairs of a target's type name
    and data, in order.
    """

    source: Schema
    targets: tuple[Schema, ...]
    splits: bool
    function: Callable[[dict[str, Any]], Any]

    @classmethod
    def of(
        cls, source: Schema, to: Schema | Sequence[Schema] | None, function: Callable[..., Any]
    ) -> Upcaster:
        """The step of a function; None for `to` means the next version.

        Raises `DeciderError` for what cannot work with any events.
        """
        name = name_of(function)
        if to is None and _is_schema(source):
            to = (source[0], source[1] + 1)
        splits = not isinstance(to, tuple)
        targets: tuple[Any, ...] = tuple(to or ()) if splits else (to,)
        for schema in (source, *targets):
            if not _is_schema(schema):
                raise DeciderError(
                    f"upcaster {name}: {schema!r} is not a type's name and a version from 1"
                )
        if len({target for target, _ in targets}) < len(targets):
            raise DeciderError(f"upcaster {name}: leads to two versions of one type")
        _check_function(name, source, function)
        return cls(source, targets, splits, function)

    @property
    def name(self) -> str:
        """The function's name."""
        return name_of(self.function)

    def apply(self, payload: bytes) -> list[tuple[Schema, bytes]]:
        """Convert a payload; raises `InvalidPayload`, naming type, version and function."""
        # Through bytes at every step: functions cannot share data, and values that JSON cannot
        # hold do not get any further.
        try:
            data = _decode(payload or b"{}")
            pieces = self._pieces(self.function(data))
            return [(schema, _encode(piece)) for schema, piece in pieces]
        except STOPS:
            raise
        except BaseException as error:  # of the user's function
            what = f"payload of {_shown(self.source)}, upcaster {self.name}"
            raise InvalidPayload(f"{what}: {type(error).__name__}: {text_of(error)}") from error

    def _pieces(self, returned: Any) -> Iterable[tuple[Schema, Any]]:
        if not self.splits:
            return [(self.targets[0], _checked(returned))]
        return [(self._target(name), _checked(data)) for name, data in returned]

    def _target(self, name: str) -> Schema:
        for target in self.targets:
            if target[0] == name:
                return target
        raise ValueError(f"made {name!r}, which is none of its targets")


class Piece(msgspec.Struct, frozen=True):
    """A current type and its payload that an older event, or a part of it, was converted to."""

    type: str
    payload: bytes
    origin: str
    """The schema and the upcasters that it comes from, for the text of errors."""


class Upcasting:
    """All upcasters of a domain, from any version ever written to the current classes.

    Raises `DeciderError`, naming what is missing or redundant, unless exactly one path leads from
    every version of every class to the current one.
    """

    def __init__(self, events: Iterable[type[Event]], upcasters: Iterable[Upcaster]) -> None:
        self._classes = {cls.__name__: cls for cls in events}
        self._steps: dict[Schema, Upcaster] = {}
        for upcaster in upcasters:
            known = self._steps.setdefault(upcaster.source, upcaster)
            if known is not upcaster:
                raise DeciderError(
                    f"two upcasters begin at {_shown(upcaster.source)}: "
                    f"{known.name} and {upcaster.name}"
                )
        self._latest = _latest(self._classes, self._steps)
        for upcaster in self._steps.values():
            self._check_source(upcaster)
        self._check_gaps()
        for upcaster in self._steps.values():
            for target in upcaster.targets:
                self._check_target(upcaster, target)
        _check_cycles(self._steps)

    @property
    def sources(self) -> frozenset[Schema]:
        """The schemas that upcasters begin at."""
        return frozenset(self._steps)

    def knows(self, name: str) -> bool:
        """Whether this is the name of a current or a former event type."""
        return name in self._latest

    def reads(self, name: str, version: int) -> bool:
        """Whether an event of this schema can be read."""
        current = self._classes.get(name)
        is_current = current is not None and current.__schema_version__ == version
        return is_current or (name, version) in self._steps

    def upcast(self, name: str, version: int, payload: bytes) -> list[Piece]:
        """Convert an event of another version than the current one to one, several or no events.

        Raises `UnsupportedSchema` or `InvalidPayload`.
        """
        if (name, version) not in self._steps:
            raise self._refusal(name, version)
        pieces = []
        waiting: list[tuple[Schema, bytes, tuple[str, ...]]] = [((name, version), payload, ())]
        while waiting:
            schema, data, by = waiting.pop()
            step = self._steps.get(schema)
            if step is None:
                origin = f"{_shown((name, version))} by {', '.join(by)}"
                pieces.append(Piece(schema[0], data, origin))
            else:
                made = step.apply(data)
                waiting.extend((target, new, (*by, step.name)) for target, new in reversed(made))
        return pieces

    def types(self, name: str, version: int) -> set[str]:
        """The current types that an event of this schema may be converted to."""
        found = set()
        waiting: list[Schema] = [(name, version)]
        while waiting:
            schema = waiting.pop()
            step = self._steps.get(schema)
            if step is None:
                found.add(schema[0])
            else:
                waiting.extend(step.targets)
        return found

    def _refusal(self, name: str, version: int) -> UnsupportedSchema:
        latest = self._latest[name]
        if version > latest:
            return UnsupportedSchema(
                f"{name} was written with schema version {version} by a newer program; "
                f"this code reads up to {latest}: upgrade this program first"
            )
        return UnsupportedSchema(
            f"{name} was written with schema version {version}; this code has no upcaster for it, "
            "as since= of its class says that no such event was ever recorded"
        )

    def _check_source(self, upcaster: Upcaster) -> None:
        name, version = upcaster.source
        cls = self._classes.get(name)
        if cls is not None and not cls.__since__ <= version < cls.__schema_version__:
            raise DeciderError(
                f"upcaster {upcaster.name} begins at {_shown(upcaster.source)}, but the class "
                f"{name} has version {cls.__schema_version__} since {cls.__since__}: there is "
                "nothing to upcast"
            )

    def _check_target(self, upcaster: Upcaster, target: Schema) -> None:
        name, version = target
        cls = self._classes.get(name)
        known = target in self._steps or (cls is not None and cls.__schema_version__ == version)
        if not known:
            there = "neither such an event class nor an upcaster that begins there"
            if cls is not None:
                own = f"the class {name} at version {cls.__schema_version__}"
                there = f"{own} and no upcaster that begins there"
            raise DeciderError(
                f"upcaster {upcaster.name} leads to {_shown(target)}, but there is {there}"
            )

    def _check_gaps(self) -> None:
        for name, latest in self._latest.items():
            cls = self._classes.get(name)
            first, end = (1, latest + 1) if cls is None else (cls.__since__, latest)
            missing = [each for each in range(first, end) if (name, each) not in self._steps]
            if missing:
                since = ", or set since= on the class if none was ever recorded" if cls else ""
                raise DeciderError(
                    f"{name} is known up to schema version {latest}, but nothing leads on from "
                    f"{_listed(missing)}: add an upcaster, @upcasts({name!r}, {missing[0]}){since}"
                )


def _latest(classes: Mapping[str, type[Event]], sources: Iterable[Schema]) -> dict[str, int]:
    latest: dict[str, int] = {}
    for name, version in sources:
        latest[name] = max(version, latest.get(name, 0))
    return latest | {name: cls.__schema_version__ for name, cls in classes.items()}


def _check_cycles(steps: Mapping[Schema, Upcaster]) -> None:
    done: set[Schema] = set()

    def visit(schema: Schema, path: tuple[Schema, ...]) -> None:
        if schema in path:
            cycle = " -> ".join(map(_shown, (*path[path.index(schema) :], schema)))
            raise DeciderError(f"upcasters form a cycle: {cycle}")
        if schema in steps and schema not in done:
            for target in steps[schema].targets:
                visit(target, (*path, schema))
        done.add(schema)

    for schema in steps:
        visit(schema, ())


def _check_function(name: str, source: Schema, function: Callable[..., Any]) -> None:
    if is_async(function):
        raise DeciderError(f"upcaster {name}: is async; it must return the new data directly")
    try:
        count = len(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # not callable, or a builtin
        count = 0
    if count != 1:
        raise DeciderError(f"upcaster {name}: must take the data of {_shown(source)} alone")


def _is_schema(value: object) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], int)
        and value[1] >= 1
    )


def _checked(data: Any) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise TypeError(f"made {type(data).__name__}, not a dict")
    return data


def _shown(schema: Schema) -> str:
    return f"{schema[0]} version {schema[1]}"


def _listed(versions: Sequence[int]) -> str:
    return f"version{'s' if len(versions) > 1 else ''} {', '.join(map(str, versions))}"
