"""The fields of a query as arguments and options of the command line, and back.

Texts, numbers and truth values are written as such, whatever type is made of them: dates, decimals,
enumerations. An option for a list of them can be repeated. What has parts is written as JSON.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable
from enum import Enum
from typing import Annotated, Any, get_args

import msgspec
import typer
from msgspec import Struct
from msgspec.inspect import (
    BoolType,
    CollectionType,
    DataclassType,
    DictType,
    EnumType,
    Field,
    FloatType,
    IntType,
    LiteralType,
    Metadata,
    NamedTupleType,
    NoneType,
    StructType,
    TupleType,
    TypedDictType,
    UnionType,
    VarTupleType,
)

from eventstore.errors import InvalidPayload
from eventstore.messages.queries import Query
from eventstore.messages.subjects import check_aggregate_id
from eventstore.messages.undecodable import UNDECODABLE

_LIST_FIELDS = ("limit", "after")
_LISTS = (CollectionType, VarTupleType)
_WITH_PARTS = (
    *(DictType, StructType, TypedDictType, DataclassType, NamedTupleType, TupleType),
    *_LISTS,  # within a list, or beside something else
)
_PREFIX = "field_"  # of the parameters' names, so that none is that of another option


class _YesNo(Enum):
    """The values of a boolean."""

    YES = "yes"
    NO = "no"


class _Filter(Enum):
    """The values of a filter for a boolean; "any" is null."""

    YES = "yes"
    NO = "no"
    ANY = "any"


_MEANINGS = {"yes": True, "no": False, "any": None}


class _Json(Struct, frozen=True):
    """A value that is written as JSON."""

    value: Any


def json(text: str) -> _Json:
    """What is written; help shows the name of this function."""
    try:
        return _Json(msgspec.json.decode(text.encode()))
    except UNDECODABLE as error:
        raise typer.BadParameter(f"is not JSON: {error}") from None


def field_parameters(query: type[Query[Any]], taken: Collection[str]) -> list[inspect.Parameter]:
    """A parameter for each field: an argument if it is required, or else an option.

    Filters come first, then the options that every list has. A field whose option is `taken` by
    another has one that begins with `--field-`.
    """
    fields = sorted(_fields(query), key=lambda each: (not each.required, each.name in _LIST_FIELDS))
    return [_parameter(field, taken) for field in fields]


def take_query(query: type[Query[Any]], given: dict[str, Any]) -> Query[Any]:
    """The query with what was given for these parameters, which is taken out of `given`.

    What was not given has its default. Raises `InvalidPayload`, or `InvalidId`.
    """
    written = [(each, given.pop(f"{_PREFIX}{each.name}")) for each in _fields(query)]
    values = {
        field.encode_name: _meaning(value)
        for field, value in written
        if value not in (None, [], _default(field))
    }
    try:
        made: Query[Any] = msgspec.convert(values, query, strict=False)
    except UNDECODABLE as error:
        if isinstance(values.get("id"), str):
            check_aggregate_id(values["id"])  # says more than the pattern that it does not match
        raise InvalidPayload(f"query {query.__name__}: {error}") from error
    return made


def parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    """A parameter of a subcommand."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, keyword, annotation=annotation, default=default)


def flags(option: inspect.Parameter) -> list[str]:
    """The flags of a parameter that is an option."""
    _, info = get_args(option.annotation)
    # Typer has the first one as the default until it makes the option.
    declared = [info.default, *(info.param_decls or ())]
    return [each for each in declared if isinstance(each, str)] or [_flag(option.name)]


def _fields(query: type[Query[Any]]) -> tuple[Field, ...]:
    described = msgspec.inspect.type_info(query)
    assert isinstance(described, StructType)  # noqa: S101  # a query is one
    return described.fields


def _meaning(value: Any) -> Any:
    match value:
        case _YesNo() | _Filter():
            return _MEANINGS[value.value]
        case _Json():
            return value.value
        case _:
            return value


def _parameter(field: Field, taken: Collection[str]) -> inspect.Parameter:
    written, metavar, options = _written(field)
    name, about = field.name.rstrip("_"), _description(field.type)
    default: Any = inspect.Parameter.empty if field.required else _default(field)
    info: typer.models.ParameterInfo
    if field.required and written != list[str]:  # of which there can be several
        choices = f"One of {metavar}." if "|" in metavar else ""
        about = " ".join(each for each in (about, choices) if each)
        info = typer.Argument(metavar=name.upper(), help=about, **options)
    else:
        flag = _flag(f"{_PREFIX}{name}" if _flag(name) in taken else name)
        info = typer.Option(flag, metavar=metavar, help=about, **options)
    annotation = written if default is not None else written | None
    return parameter(f"{_PREFIX}{field.name}", Annotated[annotation, info], default)


def _written(field: Field) -> tuple[Any, str, dict[str, Any]]:
    """The type of a field on the command line, its metavar as an option, and its bounds."""
    kinds = _kinds(field.type)
    match [each for each in kinds if not isinstance(each, NoneType)]:
        case [IntType(ge=low, le=high)]:
            return int, "N", {"min": low, "max": high}
        case [FloatType(ge=low, le=high)]:
            return float, "N", {"min": low, "max": high}
        case [BoolType()]:
            return (_YesNo, "yes|no", {}) if len(kinds) == 1 else (_Filter, "yes|no|any", {})
        case [LiteralType() | EnumType() as choice]:
            return str, "|".join(map(str, _choices(choice))), {}
    # `--path-prefix PREFIX` says as much as `--path-prefix PATH_PREFIX`.
    metavar = field.name.rstrip("_").upper().rpartition("_")[2]
    metavar = "CURSOR" if metavar == "AFTER" else metavar
    if any(isinstance(each, _LISTS) and not _has_parts(each.item_type) for each in kinds):
        return list[str], metavar, {}
    if _has_parts(field.type):
        return _Json, "JSON", {"parser": json}
    return str, metavar, {}


def _choices(kind: LiteralType | EnumType) -> Iterable[object]:
    return kind.values if isinstance(kind, LiteralType) else [each.value for each in kind.cls]


def _has_parts(kind: Any) -> bool:
    return any(isinstance(each, _WITH_PARTS) for each in _kinds(kind))


def _default(field: Field) -> Any:
    """The default as it would be written; None if that cannot be said, and is left to the class."""
    default, written = field.default, _written(field)[0]
    if written in (_YesNo, _Filter):
        return next((each for each in written if _MEANINGS[each.value] is default), None)
    if default is None or default is msgspec.NODEFAULT or written is _Json:
        return None
    plain = msgspec.to_builtins(default)
    return [str(each) for each in plain] if written == list[str] else written(plain)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


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
    return [inner for member in kind.types for inner in _kinds(member)]
