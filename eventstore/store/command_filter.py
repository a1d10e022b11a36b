"""The command filter: which commands an aggregate has seen, for ever, in bounded space.

A Bloom filter that grows by layers, each twice as large as the one before. It never forgets an
id: what it does not hold is new for certain. What it seems to hold may be new all the same, and
has to be looked for in the log.
"""

from __future__ import annotations

import hashlib

from msgspec import Struct

__all__ = ["CommandFilter"]

_FIRST_LAYER = 1024  # bytes
_MOST_LAYERS = 7
_PROBES = 8
_BITS_AN_ID = 16
_SIZES = tuple(_FIRST_LAYER << number for number in range(_MOST_LAYERS))


class CommandFilter(Struct, eq=False):
    """The ids of commands, two bytes each: from 1 KB to 127 KB for 65,000 commands.

    Up to that many, fewer than 1 in 200 of the ids that were never added seem to be in it.
    Beyond, it takes no more space, and that share grows. `layers` are its bits, `in_last` counts
    the ids in the last layer; made of others than those of a filter, it raises `ValueError`.
    """

    layers: list[bytearray]
    in_last: int = 0

    def __post_init__(self) -> None:
        sizes = tuple(map(len, self.layers))
        if not sizes or sizes != _SIZES[: len(sizes)] or self.in_last < 0:
            raise ValueError(f"no command filter has layers of {sizes} bytes")

    @classmethod
    def empty(cls) -> CommandFilter:
        """A filter that holds nothing."""
        return cls([bytearray(_FIRST_LAYER)])

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(map(len, self.layers))

    def add(self, command_id: str) -> None:
        """Hold this id from now on; one that is added twice takes the space of two."""
        is_full = self.in_last * _BITS_AN_ID >= len(self.layers[-1]) * 8
        if is_full and len(self.layers) < _MOST_LAYERS:
            self.layers.append(bytearray(_SIZES[len(self.layers)]))
            self.in_last = 0
        last, (place, step) = self.layers[-1], _hashed(command_id)
        for _ in range(_PROBES):
            place = (place + step) % (len(last) * 8)
            last[place >> 3] |= 1 << (place & 7)
        self.in_last += 1

    def __contains__(self, command_id: str) -> bool:
        hashed = _hashed(command_id)
        return any(_holds(layer, hashed) for layer in reversed(self.layers))


def _hashed(command_id: str) -> tuple[int, int]:
    """Where to begin, and how far to go to the next bit."""
    digest = hashlib.blake2b(command_id.encode(), digest_size=16).digest()
    # A layer's size is a power of two, so that an odd step meets another bit each time.
    return int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:], "big") | 1


def _holds(layer: bytearray, hashed: tuple[int, int]) -> bool:
    place, step = hashed
    for _ in range(_PROBES):
        place = (place + step) % (len(layer) * 8)
        if not layer[place >> 3] & (1 << (place & 7)):
            return False
    return True
