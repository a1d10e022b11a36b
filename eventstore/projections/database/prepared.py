"""Prepared statements: compiled once, and given to the driver with values that are ready for it.

SQLAlchemy looks up how a statement is compiled, and converts each row's values by their names, at
each execution; for many rows that takes longer than the database does. Whatever needs more than
text and values (defaults that are functions, lists that are expanded, `RETURNING`, schemas that
are translated) is left to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import repeat
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import Connection, CursorResult, Delete, Insert, Select, Update
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import BindParameter

Executable = Insert | Update | Delete | Select[*tuple[Any, ...]]
Values = Mapping[str, Any]


def execute(
    connection: Connection, statement: Executable, rows: Sequence[Values]
) -> CursorResult[*tuple[Any, ...]]:
    """Execute a statement that was built once, with the values of each row, which have equal keys.

    What a `Select` returns is as the driver returns it. Raises as `Connection.execute` does.
    """
    if not connection.get_execution_options().get("schema_translate_map"):
        prepared = _prepared(statement, tuple(rows[0]), connection.dialect)
        bound = None if prepared is None else prepared.bound(rows)
        if prepared is not None and bound is not None:
            return connection.exec_driver_sql(prepared.sql, bound)
    # One set of values is given as such: for several, a driver does not count the changed rows.
    return connection.execute(statement, list(rows) if len(rows) > 1 else rows[0])


class _Parameter(NamedTuple):
    """A value of the statement: of each row by its `key`, or a constant."""

    key: str | None
    convert: Callable[[Any], Any] | None
    constant: Any = None

    def of(self, rows: Sequence[Values]) -> Iterable[Any]:
        """Its value in each row."""
        if self.key is None:
            return repeat(self.constant, len(rows))
        values = map(itemgetter(self.key), rows)
        return values if self.convert is None else map(self.convert, values)


class _Prepared(NamedTuple):
    """The text of a statement, and its parameters in order."""

    sql: str
    parameters: tuple[_Parameter, ...]

    def bound(self, rows: Sequence[Values]) -> Any:
        """What the driver is given; None if a value cannot be converted."""
        try:
            columns = [each.of(rows) for each in self.parameters]
            bound = list(zip(*columns, strict=True)) or [()] * len(rows)
        except Exception:
            return None  # SQLAlchemy reports it
        return bound if len(rows) > 1 else bound[0]


@lru_cache(maxsize=1024)
def _prepared(statement: Executable, keys: tuple[str, ...], dialect: Dialect) -> _Prepared | None:
    """The statement for rows with these keys; None if it is left to SQLAlchemy."""
    try:
        compiled = statement.compile(dialect=dialect, column_keys=list(keys), for_executemany=True)
    except SQLAlchemyError:
        return None  # it is raised when the statement is executed
    if not isinstance(compiled, SQLCompiler) or _is_special(compiled, statement):
        return None
    parameters = [_parameter(compiled, name, keys) for name in compiled.positiontup or ()]
    if None in parameters:
        return None
    return _Prepared(str(compiled), tuple(each for each in parameters if each is not None))


def _is_special(compiled: SQLCompiler, statement: Executable) -> bool:
    """Whether it takes more than text and values to execute it."""
    return bool(
        not compiled.positional
        or compiled.insert_prefetch
        or compiled.update_prefetch
        or compiled.effective_returning
        or compiled.literal_execute_params
        or compiled.post_compile_params
        or statement.get_execution_options()
    )


def _parameter(compiled: SQLCompiler, name: str, keys: tuple[str, ...]) -> _Parameter | None:
    bind: BindParameter[Any] | None = compiled.binds.get(name)
    if bind is None or bind.callable is not None:
        return None
    convert = _converting(bind, compiled.dialect)
    if bind.key in keys:
        return _Parameter(bind.key, convert)
    if bind.required:
        return None
    return _Parameter(None, None, bind.value if convert is None else convert(bind.value))


def _converting(bind: BindParameter[Any], dialect: Dialect) -> Callable[[Any], Any] | None:
    convert: Callable[[Any], Any] | None = bind.type.dialect_impl(dialect).bind_processor(dialect)
    return convert
