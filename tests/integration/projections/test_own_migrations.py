"""An application with an Alembic of its own, which the service runs with the library's."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

from eventstore import Application
from eventstore.config import Settings
from eventstore.projections.database import Migrations
from examples import bank
from tests.integration.command_line import BOUND, CommandLine

ENV = """
from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
"""
FIRST = """
import sqlalchemy as sa
from alembic import op

revision = "first"
down_revision = None


def upgrade():
    op.create_table(
        "movement",
        sa.Column("id", sa.String(128), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("amount", sa.BigInteger),
    )
"""
APP = """
import bank
from eventstore import Application
from eventstore.projections.database import Migrations

app = Application(
    "bank",
    [bank.account],
    projections=[bank.accounts],
    queries=[bank.queries],
    migrations=Migrations("alembic"),
)
"""


def scripts(directory: Path) -> Path:
    (directory / "versions").mkdir(parents=True)
    (directory / "env.py").write_text(ENV)
    (directory / "versions" / "first.py").write_text(FIRST)
    return directory


def tables(database: Path) -> set[str]:
    """All but the library's."""
    with closing(sqlite3.connect(database)) as connection:
        found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        return {name for (name,) in found if not name.startswith("eventstore_")}


async def test_they_run_when_the_service_starts(settings: Settings, tmp_path: Path) -> None:
    app = Application(
        "bank",
        [bank.account],
        projections=[bank.accounts],
        queries=[bank.queries],
        migrations=Migrations(scripts(tmp_path / "alembic")),
    )
    async with asyncio.timeout(BOUND), app.running(settings, directory=tmp_path) as service:
        outcome = await service.execute(bank.Deposit(amount=7), "a")
        view = await service.ask(bank.GetAccount(id="a"), wait_for=outcome.position)
    assert view.balance == 7
    assert tables(tmp_path / "read_model.sqlite") == {"movement", "alembic_version"}


def test_the_command_line_migrates_them(tmp_path: Path) -> None:
    scripts(tmp_path / "alembic")
    (tmp_path / "bank.py").write_text(Path(bank.__file__).read_text())
    (tmp_path / "shop.py").write_text(APP)
    cli = CommandLine(tmp_path, EVENTSTORE_APP="shop:app")

    checked = cli.call("migrate", "--check", "--database", "rows.sqlite")
    assert checked.status == 1
    assert "tables of the application: is at revision none, this code needs first" in checked.out
    migrated = cli.call("migrate", "--database", "rows.sqlite")
    assert migrated.status == 0, migrated
    assert "tables of the application: migrated from revision none to first" in migrated.out
    assert tables(tmp_path / "rows.sqlite") == {"movement", "alembic_version"}
