"""Generate the next migration from the difference between the models and the scripts.

python -m migrations "Describe the change"
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from alembic import command
from sqlalchemy import create_engine

from eventstore.projections.database import schema


def main(message: str) -> None:
    """Upgrade an empty database to the newest revision and compare the models with it."""
    number = 1 + len(list((schema.migrations() / "versions").glob("[0-9]*.py")))
    with tempfile.TemporaryDirectory() as directory:
        engine = create_engine(f"sqlite:///{Path(directory) / 'empty.sqlite'}")
        with engine.begin() as connection:
            schema.upgrade(connection)
            config = schema.config(connection)
            command.revision(config, message, autogenerate=True, rev_id=f"{number:04}")
        engine.dispose()


if __name__ == "__main__":
    main(" ".join(sys.argv[1:]) or sys.exit("describe the change: python -m migrations MESSAGE"))
