"""Prepared statements: compiled once, and given to the driver with values that are ready for it.

SQLAlchemy looks up how a statement is compiled, and converts each row's values by their names, at
each execution; for many rows that takes longer than the database does, and for a query of one row
several times as long. Whatever needs more than text and values (defaults that are functions, lists
that are expanded, `RETURNING`, schemas that are translated) is left to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar
from weakref import WeakSet

from sqlalchemy import Connection, Delete, Insert, Select, Update
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import BindParameter
from sqlalchemy.types import TypeEngine

T = TypeVar("T")

Executable = Insert | Update | Delete | Select[*tuple[Any, ...]]
Values = Mapping[str, Any]


def execute(connection: Connection, statement: Executable, rows: Sequence[Values]) -> int:
    """Execute a statement that was built once, with the values of each row, which have equal keys.

    Returns the number of changed rows, if the driver counts them: in SQLite always, in PostgreSQL
    for one row. Raises as `Connection.execute` does.
    """
    if not connection.get_execution_options().get("schema_translate_map"):
        prepared = _prepared(statement, tuple(rows[0]), connection.dialect)
        bound = None if prepared is None else prepared.bound(rows)
        if prepared is not None and bound is not None:
            if _is_plain(connection):
                return executed(connection, prepared.sql, bound, many=len(rows) > 1)
            return connection.exec_driver_sql(prepared.sql, bound).rowcount
    # One set of values is given as such: for several, a driver does not count the changed rows.
    return connection.execute(statement, list(rows) if len(rows) > 1 else rows[0]).rowcount


def executed(connection: Connection, sql: str, bound: Any = (), *, many: bool = False) -> int:
    """Execute a text by the driver itself; the number of changed rows.

    Raises as `Connection.exec_driver_sql` does, which takes as long as a short statement.
    """

    def run(cursor: Any) -> int:
        (cursor.executemany if many else cursor.execute)(sql, bound)
        return int(cursor.rowcount)

    return _by_driver(connection, sql, bound, run)


def _by_driver(connection: Connection, sql: str, bound: Any, run: Callable[[Any], T]) -> T:
    """What is made of a cursor of the driver, whose errors are raised as SQLAlchemy's."""
    dialect = connection.dialect
    errors = dialect.loaded_dbapi.Error
    try:
        cursor = connection.connection.cursor()
        result = run(cursor)
        cursor.close()
    except errors as error:
        raise DBAPIError.instance(sql, bound, error, errors, dialect=dialect) from error
    return result


Convert = Callable[[Any], Any]
Row = Sequence[Any]


def fetch(
    connection: Connection, statement: Select[*tuple[Any, ...]], values: Values
) -> tuple[Sequence[str], Sequence[Row]]:
    """The names of a statement's columns, and all rows, converted by the columns' types.

    A statement that is executed again is prepared; one that is built for each execution is left to
    SQLAlchemy, which finds what it compiled before by the statement's structure. Raises as
    `Connection.execute` does.
    """
    if statement not in _executed:
        _executed.add(statement)
    elif _is_plain(connection):
        prepared = _prepared(statement, tuple(values), connection.dialect)
        if prepared is not None and (found := prepared.fetched(connection, values)) is not None:
            return found
    result = connection.execute(statement, values)
    return tuple(result.keys()), result.all()


_executed: WeakSet[Select[*tuple[Any, ...]]] = WeakSet()


def _is_plain(connection: Connection) -> bool:
    """Whether its driver can be called directly, in the transaction that has begun."""
    return (
        connection.in_transaction()
        and not connection.dialect.is_async
        and not connection.get_execution_options().get("schema_translate_map")
    )


class _Prepared(NamedTuple):
    """The text of a statement, and how its parameters are made of a row.

    These are values of the row by `keys`, some of which are converted, and constants, by the index
    of the parameter. What it returns has columns of these `names`, and `results` converts some.
    """

    sql: str
    keys: tuple[str, ...]
    converted: tuple[tuple[int, Convert], ...]
    constants: tuple[tuple[int, Any], ...]
    names: tuple[str, ...]
    results: tuple[tuple[int, Convert], ...]

    def fetched(
        self, connection: Connection, values: Values
    ) -> tuple[Sequence[str], Sequence[Row]] | None:
        """What the driver returns; None if SQLAlchemy has to execute the statement."""
        bound = self.bound([values])
        if bound is None or not self.names:
            return None

        def run(cursor: Any) -> tuple[tuple[str, ...], list[Row]]:
            cursor.execute(self.sql, bound)
            return tuple(map(_name, cursor.description)), cursor.fetchall()

        names, rows = _by_driver(connection, self.sql, bound, run)
        # `*` has other names, and text may have several columns: SQLAlchemy finds their types.
        return (names, self._converted(rows)) if names == self.names else None

    def _converted(self, rows: Sequence[Row]) -> Sequence[Row]:
        if not self.results:
            return rows
        found = list(map(list, rows))
        for row in found:
            for at, convert in self.results:
                row[at] = convert(row[at])
        return found

    def bound(self, rows: Sequence[Values]) -> Any:
        """What the driver is given; None if a value cannot be converted."""
        try:
            return self._row(rows[0]) if len(rows) == 1 else self._rows(rows)
        except Exception:
            return None  # SQLAlchemy reports it

    def _row(self, row: Values) -> tuple[Any, ...]:
        found = [row[key] for key in self.keys]
        for at, constant in self.constants:
            found.insert(at, constant)
        for at, convert in self.converted:
            found[at] = convert(found[at])
        return tuple(found)

    def _rows(self, rows: Sequence[Values]) -> list[tuple[Any, ...]]:
        return list(zip(*self._columns(rows), strict=True)) or [()] * len(rows)

    def _columns(self, rows: Sequence[Values]) -> list[Sequence[Any]]:
        """The values of each parameter in all rows."""
        if len(self.keys) > 1:
            columns: list[Sequence[Any]] = list(
                zip(*map(itemgetter(*self.keys), rows), strict=True)
            )
        else:
            columns = [[row[key] for row in rows] for key in self.keys]
        for at, constant in self.constants:
            columns.insert(at, [constant] * len(rows))
        for at, convert in self.converted:
            columns[at] = list(map(convert, columns[at]))
        return columns


@lru_cache(maxsize=1024)
def _prepared(statement: Executable, keys: tuple[str, ...], dialect: Dialect) -> _Prepared | None:
    """The statement for rows with these keys; None if it is left to SQLAlchemy."""
    try:
        compiled = statement.compile(dialect=dialect, column_keys=list(keys), for_executemany=True)
    except SQLAlchemyError:
        return None  # it is raised when the statement is executed
    if not isinstance(compiled, SQLCompiler) or _is_special(compiled, statement):
        return None
    binds = [compiled.binds.get(name) for name in compiled.positiontup or ()]
    own: list[str] = []
    converted: list[tuple[int, Convert]] = []
    constants: list[tuple[int, Any]] = []
    for at, bind in enumerate(binds):
        if bind is None or bind.callable is not None or (bind.required and bind.key not in keys):
            return None
        if bind.key in keys:
            own.append(bind.key)
        else:
            constants.append((at, bind.value))
        if (convert := _converting(bind, dialect)) is not None:
            converted.append((at, convert))
    columns = compiled._result_columns
    results = [(at, _converting_result(each.type, dialect)) for at, each in enumerate(columns)]
    return _Prepared(
        str(compiled),
        tuple(own),
        tuple(converted),
        tuple(constants),
        tuple(str(each.keyname) for each in columns),
        tuple((at, convert) for at, convert in results if convert is not None),
    )


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


_name = itemgetter(0)  # of a column that the driver describes


def _converting(bind: BindParameter[Any], dialect: Dialect) -> Convert | None:
    convert: Convert | None = bind.type.dialect_impl(dialect).bind_processor(dialect)
    return convert


def _converting_result(kind: TypeEngine[Any], dialect: Dialect) -> Convert | None:
    convert: Convert | None = kind.dialect_impl(dialect).result_processor(dialect, None)
    return convert
