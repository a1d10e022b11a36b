"""What Alembic's autogenerate has to know about this library.

In a user's `env.py`:

context.configure(
...,
include_name=include_name,  # the library's tables in the database are not to be dropped
render_item=render_item,  # a column of `UtcDateTime` is written without importing it
)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from eventstore.projections.database.tables import UtcDateTime
from eventstore.projections.table_names import is_reserved


def include_name(name: str | None, kind: str, _parents: Mapping[Any, Any]) -> bool:
    """Whether a table or schema found in the database is the user's own, for `include_name`.

    All but the library's are, whose names begin with `eventstore_`.
    """
    return kind not in {"schema", "table"} or name is None or not is_reserved(name)


def render_item(kind: str, item: Any, _context: Any) -> str | Literal[False]:
    """Write a script without our own type, which may have changed when it runs."""
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    return False
