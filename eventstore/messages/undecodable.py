"""Exceptions of untrusted input and of foreign code, as sets to catch."""

from __future__ import annotations

import msgspec

UNDECODABLE = (msgspec.MsgspecError, ValueError, RecursionError)
"""Raised by decoders: malformed, another type, invalid text or number or time, nested too deep."""

STOPS = (KeyboardInterrupt, SystemExit)
"""The exceptions of foreign synchronous code that must end the program; all others are its own.

That includes a cancellation, which cannot arrive in code that does not wait.
"""


def text_of(error: BaseException) -> str:
    """The text of an exception of any class, also if its own `__str__` fails."""
    try:
        return str(error)
    except STOPS:
        raise
    except BaseException:  # whatever the error's own code raises
        return "(its text cannot be made)"
