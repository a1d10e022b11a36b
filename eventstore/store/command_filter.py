"""The command filter: the ids of an aggregate's commands in bounded space.

A Bloom filter that grows by layers, each twice as large as the one before. An id that it does not
contain is new. An id that it seems to contain may be new as well, and has to be searched for in the
log.
"""

from __future__ import annotations

import hashlib

from msgspec import Struct

_FIRST_LAYER = 1024  # bytes
_MAX_LAYERS = 7
_PROBES = 8
_BITS_AN_ID = 16
_SIZES = tuple(_FIRST_LAYER << number for number in range(_MAX_LAYERS))


class CommandFilter(Struct, eq=False):
    """The ids of commands, two bytes each: from 1 KB to 127 KB for 65,000 commands.

    Up to that many, the rate of false positives is below 1 in 200. Beyond, its size is constant and
    the rate grows. `layers` are its bits, `in_last` counts the ids in the last layer. Raises
    `ValueError` for layers of illegal sizes.
    """

    layers: list[bytearray]
    in_last: int = 0

    def __post_init__(self) -> None:
        sizes = tuple(map(len, self.layers))
        if not sizes or sizes != _SIZES[: len(sizes)] or self.in_last < 0:
            raise ValueError(f"no command filter has layers of {sizes} bytes")

    @classmethod
    def empty(cls) -> CommandFilter:
        """A filter that contains nothing."""
        return cls([bytearray(_FIRST_LAYER)])

    @property
    def size(self) -> int:
        """The size in bytes."""
        return sum(map(len, self.layers))

    def add(self, command_id: str) -> None:
        """Add an id; one that is added twice takes the space of two."""
        is_full = self.in_last * _BITS_AN_ID >= len(self.layers[-1]) * 8
        if is_full and len(self.layers) < _MAX_LAYERS:
            self.layers.append(bytearray(_SIZES[len(self.layers)]))
            self.in_last = 0
        last, (bit, step) = self.layers[-1], _hashed(command_id)
        for _ in range(_PROBES):
            bit = (bit + step) % (len(last) * 8)
            last[bit >> 3] |= 1 << (bit & 7)
        self.in_last += 1

    def __contains__(self, command_id: str) -> bool:
        hashed = _hashed(command_id)
        return any(_contains(layer, hashed) for layer in reversed(self.layers))


def _hashed(command_id: str) -> tuple[int, int]:
    """The position of the first bit, and the step to the next."""
    digest = hashlib.blake2b(command_id.encode(), digest_size=16).digest()
    # A layer's size is a power of two, so an odd step reaches a different bit each time.
    return int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:], "big") | 1


def _contains(layer: bytearray, hashed: tuple[int, int]) -> bool:
    bit, step = hashed
    for _ in range(_PROBES):
        bit = (bit + step) % (len(layer) * 8)
        if not layer[bit >> 3] & (1 << (bit & 7)):
            return False
    return True
