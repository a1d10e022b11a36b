"""Filters of lists: a filter without a value excludes nothing, and indexes are used.

select(flake).where(equals(flake.c.path, query.path), begins(flake.c.path, query.path_prefix))
"""

from __future__ import annotations

import sys
from typing import Any

from sqlalchemy import ColumnElement, Text, exists, literal, select, true
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

_SURROGATES = range(0xD800, 0xE000)  # not characters


def equals(column: ColumnElement[Any], value: object) -> ColumnElement[bool]:
    """The column has this value; true without one."""
    return true() if value is None else column == value


def given(column: ColumnElement[Any], wanted: bool | None) -> ColumnElement[bool]:
    """The column has a value, or is null; true for None."""
    if wanted is None:
        return true()
    return column.is_not(None) if wanted else column.is_(None)


def begins(column: ColumnElement[str], prefix: str | None) -> ColumnElement[bool]:
    """The column's text begins with the prefix, case-sensitively; true without one."""
    if not prefix:
        return true()
    bounds = [text for text in (prefix, _after(prefix)) if text is not None]
    return _Begins(column, *(literal(text, Text()) for text in bounds))


def has_element(column: ColumnElement[Any], value: str | None) -> ColumnElement[bool]:
    """The column's JSON list of texts has this element; true without one.

    No index is used: every row that other filters leave is read.
    """
    if value is None:
        return true()
    element = _Elements(column).table_valued("value")
    return exists(select(1).select_from(element).where(element.c.value == value))


class _Begins(FunctionElement[Any]):
    """A column, the prefix, and the first text after all that begin with it, if there is one.

    If texts are ordered by their characters, that is a range, for which an index is used. Otherwise
    the order may be a language's, which puts other texts between. It is not typed as a boolean, for
    SQLAlchemy would compare that with 1 in SQLite, which then uses no index.
    """

    inherit_cache = True


class _Elements(FunctionElement[str]):
    """The elements of a JSON list as the rows of a table, in its column `value`."""

    type = Text()
    inherit_cache = True


@compiles(_Begins)
def _range(element: _Begins, compiler: SQLCompiler, **options: Any) -> str:
    column, *bounds = (compiler.process(each, **options) for each in element.clauses)
    comparisons = zip((">=", "<"), bounds, strict=False)
    together = " AND ".join(f"{column} {operator} {bound}" for operator, bound in comparisons)
    return f"({together})"


@compiles(_Begins, "postgresql")
def _starts_with(element: _Begins, compiler: SQLCompiler, **options: Any) -> str:
    used = list(element.clauses)[:2]  # a clause that is compiled is sent, and this needs no bound
    return f"starts_with({', '.join(compiler.process(each, **options) for each in used)})"


@compiles(_Elements, "sqlite")
def _json_each(element: _Elements, compiler: SQLCompiler, **options: Any) -> str:
    return f"json_each({compiler.process(element.clauses, **options)})"


@compiles(_Elements, "postgresql")
def _json_array(element: _Elements, compiler: SQLCompiler, **options: Any) -> str:
    return f"json_array_elements_text({compiler.process(element.clauses, **options)})"


def _after(prefix: str) -> str | None:
    """The first text after all that begin with `prefix`; None if there is none."""
    while prefix:
        code = ord(prefix[-1]) + 1
        if code in _SURROGATES:
            code = _SURROGATES.stop
        prefix = prefix[:-1]
        if code <= sys.maxunicode:
            return prefix + chr(code)
    return None
