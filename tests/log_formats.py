"""The formats of log handlers, which a service changes for its whole process."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def formats_restored() -> Iterator[None]:
    """Give the handlers of the root logger their formats back: those of pytest are among them."""
    before = [(each, each.formatter) for each in logging.getLogger().handlers]
    try:
        yield
    finally:
        for handler, formatter in before:
            handler.setFormatter(formatter)
