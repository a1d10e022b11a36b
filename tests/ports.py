"""Ports that stay free until a test uses them."""

from __future__ import annotations

import itertools
import os
import socket

_FIRST, _LAST = 10_000, 32_767
"""Below what the system gives to whoever asks for any port."""
_EACH = 64

_own = itertools.cycle(
    (_FIRST + (os.getpid() * _EACH + number) % (_LAST - _FIRST)) for number in range(_LAST - _FIRST)
)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, for servers that have to know of each other's.

    Each process begins elsewhere, and none is returned twice as long as there are others.
    """
    return list(itertools.islice(filter(_is_free, _own), count))


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
