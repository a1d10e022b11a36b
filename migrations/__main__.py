"""Generate the next migration from the difference between the models and the scripts.

python -m migrations "Describe the change"
python -m migrations --library "Describe the change"
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from alembic import command
from sqlalchemy import create_engine

import eventstore.projections.audit  # noqa: F401  # its tables register as the library's
from eventstore.projections.database import Migrations
from eventstore.projections.database.library import LIBRARY
from projections import nix_migrations


def main(message: str, migrations: Migrations | None = None) -> None:
    """Upgrade an empty database to the newest revision and compare the models with it.

    Of the Nix domain's tables, unless others are given.
    """
    made = migrations or nix_migrations()
    numbers = [int(path.name[:4]) for path in (made.scripts / "versions").glob("[0-9]*.py")]
    with tempfile.TemporaryDirectory() as directory:
        engine = create_engine(f"sqlite:///{Path(directory) / 'empty.sqlite'}")
        with engine.begin() as connection:
            made.upgrade(connection)
            config = made.config(connection)
            number = max(numbers, default=0) + 1
            command.revision(config, message, autogenerate=True, rev_id=f"{number:04}")
        engine.dispose()


if __name__ == "__main__":
    words = sys.argv[1:]
    of = LIBRARY if words[:1] == ["--library"] else None
    text = " ".join(words[1:] if of else words)
    main(text or sys.exit("describe the change: python -m migrations [--library] MESSAGE"), of)
