"""The difference of two states, field by field."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A field that was added, removed or given another value.

    `path` are the names of its parents and its own. `before` is None for an added field, `after`
    for a removed one.
    """

    kind: Literal["added", "removed", "changed"]
    path: tuple[str, ...]
    before: Any = None
    after: Any = None


def plain(state: object) -> Any:
    """A state as JSON types; values that JSON does not have become their `repr`."""
    return msgspec.to_builtins(state, order="deterministic", str_keys=True, enc_hook=repr)


def changes(before: Any, after: Any) -> tuple[Change, ...]:
    """The differences of two plain states; lists are compared as single values."""
    return tuple(_changes(before, after, ()))


def _changes(before: Any, after: Any, path: tuple[str, ...]) -> Iterator[Change]:
    if not isinstance(before, Mapping) or not isinstance(after, Mapping):
        if before != after:
            yield Change(kind="changed", path=path, before=before, after=after)
        return
    for name in dict.fromkeys((*before, *after)):
        own = (*path, name)
        if name not in after:
            yield Change(kind="removed", path=own, before=before[name])
        elif name not in before:
            yield Change(kind="added", path=own, after=after[name])
        else:
            yield from _changes(before[name], after[name], own)
