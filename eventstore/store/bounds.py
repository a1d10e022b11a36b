"""Bounds of what is read: after and up to a version or a position, and how many events at most."""

from __future__ import annotations

from msgspec import Struct

from eventstore.errors import InvalidRange


class Bounds(Struct, frozen=True):
    """After `after`, up to and including `until` (None: the end), at most `limit` (None: all)."""

    after: int = 0
    until: int | None = None
    limit: int | None = None

    @classmethod
    def checked(cls, after: int, until: int | None, limit: int | None) -> Bounds:
        """Bounds as a caller gives them; raises `InvalidRange`, naming what is wrong."""
        _check_number("after", after, 0)
        if until is not None:
            _check_number("until", until, 0)
            if until < after:
                raise InvalidRange(
                    f"until {until} comes before after {after}: nothing can be between; backwards "
                    "reads the same events in the other order"
                )
        if limit is not None:
            _check_number("limit", limit, 1)
        return cls(after, until, limit)

    @property
    def is_open(self) -> bool:
        """Whether neither end nor number is limited."""
        return self.until is None and self.limit is None

    def includes(self, number: int) -> bool:
        """Whether a version or position is within them."""
        return self.after < number and (self.until is None or number <= self.until)

    def page_size(self, most: int, *, from_number: int | None = None) -> int:
        """How many to request at a time, of `most` that are possible, from a number before."""
        start = self.after if from_number is None else from_number
        skipped = max(0, self.after - start)
        size = most if self.limit is None else min(most, self.limit + skipped)
        return size if self.until is None else max(1, min(size, self.until - start))


def _check_number(name: str, value: object, least: int) -> None:
    if type(value) is not int or value < least:
        raise InvalidRange(f"{name} is {value!r}: it has to be a whole number from {least}")
