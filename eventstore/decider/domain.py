"""A domain: a named set of deciders, and the codec of their messages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from eventstore.decider.decider import Decider
from eventstore.errors import DeciderError, UnknownType
from eventstore.messages.codec import Codec
from eventstore.messages.subjects import check_name


class Domain:
    """A named set of deciders: all that the store and the workers need to know of a domain.

    `name` is the first token of every subject; `declared_name` is whom its streams belong to, and
    the same unless the domain was renamed. Raises `DeciderError` if two deciders share an aggregate
    or a message, if one is not complete, or if upcasters are missing.
    """

    def __init__(self, name: str, deciders: Iterable[Decider[Any]]) -> None:
        self.name = self.declared_name = check_name("domain", name)
        self.deciders: dict[str, Decider[Any]] = {}
        for decider in deciders:
            decider.check()
            if self.deciders.setdefault(decider.aggregate, decider) is not decider:
                raise DeciderError(f"two deciders are named {decider.aggregate}")
        every = self.deciders.values()
        self.codec = Codec(
            name,
            commands=[command for decider in every for command in decider.command_types],
            events=[event for decider in every for event in decider.event_types],
            upcasters=[upcaster for decider in every for upcaster in decider.upcasters],
        )

    def renamed(self, name: str) -> Domain:
        """The same deciders under another name: other subjects, other streams."""
        renamed = Domain(name, self.deciders.values())
        renamed.declared_name = self.declared_name
        return renamed

    def decider(self, aggregate: str) -> Decider[Any]:
        """The decider of a kind of aggregate; raises `UnknownType`."""
        try:
            return self.deciders[aggregate]
        except KeyError:
            known = ", ".join(sorted(self.deciders))
            raise UnknownType(f"unknown aggregate {aggregate!r}; known are {known}") from None
