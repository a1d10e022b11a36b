"""`python -m projections`: keep the read models of the Nix domain up to date, and nothing else.

A process of a fleet: its settings come from the environment. Several of them share the projections:
each belongs to one process at a time. Ends with status 0 on Ctrl-C or SIGTERM, 1 for an error.
"""

from __future__ import annotations

import logging
import sys

from eventstore.errors import EventStoreError
from projections import app

if __name__ == "__main__":
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.INFO)
    try:
        app.serve(worker=False, queries=False, feed=False, subscribers=False)
    except EventStoreError as error:
        sys.exit(f"error: {error}")
