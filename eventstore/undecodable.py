"""What decoding raises for bytes from outside that are not what they should be."""

from __future__ import annotations

import msgspec

__all__ = ["STOPS", "UNDECODABLE", "text_of"]

UNDECODABLE = (msgspec.MsgspecError, ValueError, RecursionError)
"""Malformed or of another shape; no text, or no such number or time; nested too deep."""

STOPS = (KeyboardInterrupt, SystemExit)
"""What means the program, whoever's code it comes up in; all else that a class raises is its own.

A cancellation is, too: none can arrive in code that does not wait.
"""


def text_of(error: BaseException) -> str:
    """What an error of anybody's class says; its own code cannot do more harm than say nothing."""
    try:
        return str(error)
    except STOPS:
        raise
    except BaseException:  # whatever the error's own code raises
        return "(its text cannot be made)"
