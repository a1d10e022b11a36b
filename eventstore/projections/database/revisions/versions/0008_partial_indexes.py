"""Indexes of the audit index without what most rows have in common."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None
expands = True

_EVENT, _COMMAND = "eventstore_audit_event", "eventstore_audit_command"

_PARTIAL = (
    (_EVENT, ("causation_id",), "causation_id != correlation_id"),
    (_EVENT, ("actor", "time"), "actor IS NOT NULL"),
    (_COMMAND, ("correlation_id",), "correlation_id != id"),
    (_COMMAND, ("causation_id",), "causation_id != id"),
    (_COMMAND, ("actor", "time"), "actor IS NOT NULL"),
    (_COMMAND, ("status", "time"), "status != 'success'"),
)


def upgrade() -> None:
    for table, columns, condition in _PARTIAL:
        where = sa.text(condition)
        _replace(table, columns, sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    for table, columns, _ in _PARTIAL:
        _replace(table, columns)


def _replace(table: str, columns: tuple[str, ...], **options: Any) -> None:
    name = op.f(f"ix_{table}_{'_'.join(columns)}")
    op.drop_index(name, table)
    op.create_index(name, table, list(columns), **options)
