"""Faults: processes killed, servers gone, answers lost.

Those that take chances run in a short form with the suite, and in a long one with `make fault`.
"""

import os

LONG = os.environ.get("FAULT") == "long"
"""Whether this is the long form."""
