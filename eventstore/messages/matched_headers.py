"""Headers that a pattern has matched, as a mapping that is made of them only if it has to be."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping, Sequence
from typing import TypeVar, overload

T = TypeVar("T")


class MatchedHeaders(Mapping[str, str]):
    """The values that a pattern has matched, by the names of their headers.

    `indexes` has the index of each header's value among the values; those that are None are
    missing. What is pickled or copied is a plain dict.
    """

    __slots__ = ("_indexes", "_values")

    def __init__(self, indexes: Mapping[str, int], values: Sequence[str | None]) -> None:
        self._indexes = indexes
        self._values = values

    @overload
    def get(self, key: str, /) -> str | None: ...

    @overload
    def get(self, key: str, /, default: str | T) -> str | T: ...

    def get(self, key: str, /, default: object = None) -> object:
        """See `Mapping`."""
        index = self._indexes.get(key)
        value = None if index is None else self._values[index]
        return default if value is None else value

    def __getitem__(self, key: str) -> str:
        value = self.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def __contains__(self, key: object) -> bool:
        index = self._indexes.get(key)  # type: ignore[call-overload]  # of any type
        return index is not None and self._values[index] is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self.copy())

    def __len__(self) -> int:
        return len(self.copy())

    def __bool__(self) -> bool:
        return True  # a pattern does not match without headers

    def items(self) -> ItemsView[str, str]:
        """See `Mapping`."""
        return self.copy().items()

    def copy(self) -> dict[str, str]:
        """The headers as a dict, in the order of their lines."""
        values = self._values
        return {
            name: value
            for name, index in self._indexes.items()
            if (value := values[index]) is not None
        }

    def __or__(self, other: Mapping[str, str]) -> dict[str, str]:
        return self.copy() | dict(other)

    def __repr__(self) -> str:
        return repr(self.copy())

    def __reduce__(self) -> tuple[type[dict[str, str]], tuple[dict[str, str]]]:
        return dict, (self.copy(),)
