"""The fields of a query as arguments and options of the command line, and back."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from enum import Enum
from typing import Annotated, Any

import msgspec
import typer
from msgspec.inspect import BoolType, Field, IntType, LiteralType, Metadata, NoneType, UnionType

from eventstore.messages.queries import Query

_LIST_FIELDS = ("limit", "after")


class _Filter(Enum):
    """The values of a filter for a boolean; "any" is null."""

    YES = "yes"
    NO = "no"
    ANY = "any"


_MEANINGS = {_Filter.YES: True, _Filter.NO: False, _Filter.ANY: None}


def field_parameters(query: type[Query[Any]]) -> list[inspect.Parameter]:
    """A parameter for each field: an argument if it is required, or else an option.

    Filters come first, then the options that every list has.
    """
    described = msgspec.inspect.type_info(query)
    assert isinstance(described, msgspec.inspect.StructType)  # noqa: S101  # a query is one
    fields = sorted(
        described.fields, key=lambda field: (not field.required, field.name in _LIST_FIELDS)
    )
    return [_parameter(field) for field in fields]


def field_values(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields' values for what was given for these parameters."""
    return {
        name: _MEANINGS[value] if isinstance(value, _Filter) else value
        for name, value in given.items()
    }


def parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    """A parameter of a subcommand."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, keyword, annotation=annotation, default=default)


def _parameter(field: Field) -> inspect.Parameter:
    about, kinds = _description(field.type), _kinds(field.type)
    metavar = field.name.upper()
    info: typer.models.ParameterInfo
    annotation: Any
    default: Any = inspect.Parameter.empty if field.required else field.default
    if field.required:
        info, annotation = typer.Argument(metavar=metavar, help=about), str
    elif (number := _of(kinds, IntType)) is not None:
        info = typer.Option(_flag(field), metavar="N", min=number.ge, max=number.le, help=about)
        annotation = int if default is not None else int | None
    elif _of(kinds, BoolType) is not None:
        info, annotation = typer.Option(_flag(field), help=about), _Filter
        default = next(each for each, meaning in _MEANINGS.items() if meaning is default)
    else:
        if (literal := _of(kinds, LiteralType)) is not None:
            metavar = "|".join(map(str, literal.values))
        # `--path-prefix PREFIX` says as much as `--path-prefix PATH_PREFIX`.
        metavar = "CURSOR" if metavar == "AFTER" else metavar.rpartition("_")[2]
        info = typer.Option(_flag(field), metavar=metavar, help=about)
        annotation = str | None
    return parameter(field.name, Annotated[annotation, info], default)


def _flag(field: Field) -> str:
    return f"--{field.name.replace('_', '-')}"


def _description(kind: Any) -> str:
    """The description in the annotation; the outermost one if there are several."""
    found = ""
    while isinstance(kind, Metadata):
        found = found or str((kind.extra_json_schema or {}).get("description", ""))
        kind = kind.type
    return found


def _kinds(kind: Any) -> list[Any]:
    while isinstance(kind, Metadata):
        kind = kind.type
    if not isinstance(kind, UnionType):
        return [kind]
    members = (inner for member in kind.types for inner in _kinds(member))
    return [member for member in members if not isinstance(member, NoneType)]


def _of(kinds: list[Any], wanted: type[Any]) -> Any:
    return next((kind for kind in kinds if isinstance(kind, wanted)), None)
