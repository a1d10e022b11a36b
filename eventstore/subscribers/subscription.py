"""A subscription: what a subscriber's consumer delivers, and from which positions of the log.

It is stored with the consumer, in its filter and its metadata, for all processes and restarts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Self

import msgspec
from msgspec import Struct

from eventstore.client.api_answers import ConsumerInfo
from eventstore.messages.subjects import Subjects
from eventstore.messages.types import Event
from eventstore.messages.undecodable import UNDECODABLE

FILTER = ("filter_subject", "filter_subjects")
"""The settings of a consumer's filter."""

_START_AFTER = "start-after"
_GAINED = "gained-after"
_FORMER = "former-filters"
_CONTINUES = "continues"
_CONTINUED_BY = "continued-by"
_SUBJECTS = "continued-subjects"
_NOBODY = "CONTINUED"  # no aggregate can have this name
_OWN = {_START_AFTER, _GAINED, _FORMER, _CONTINUES, _CONTINUED_BY, _SUBJECTS}
_SERVERS = "_nats."  # what the server adds to metadata
_MAX_FORMER = 16

_decode_gained = msgspec.json.Decoder(dict[str, int]).decode


class Subscription(Struct, frozen=True):
    """The subjects that a consumer delivers, and where each begins.

    Events at positions up to `start` are not for the subscriber, although the feed may publish them
    later, nor those of a subject up to its position in `gained`, if it was added later. `former`
    are digests of earlier sets of subjects, oldest first; `continues` is the name whose position
    this one has taken over, `continued_by` the one that has taken this one's. `created` is when the
    consumer was, which a reset changes; `ack_wait` is in seconds.
    """

    subjects: frozenset[str]
    start: int = 0
    gained: Mapping[str, int] = {}
    former: tuple[str, ...] = ()
    continues: str | None = None
    continued_by: str | None = None
    created: str = ""
    ack_wait: float = 0.0

    @classmethod
    def of(cls, info: ConsumerInfo) -> Self:
        """The subscription that a consumer has; what cannot be read of its metadata is left out."""
        return cls.configured(info.config, info.created)

    @classmethod
    def configured(cls, config: Mapping[str, Any], created: str = "") -> Self:
        """The same, of a consumer's settings."""
        metadata: Mapping[str, str] = config.get("metadata") or {}
        former = metadata.get(_SUBJECTS, "").split()
        return cls(
            frozenset(former) if _CONTINUED_BY in metadata else filtered(config),
            _number(metadata.get(_START_AFTER)),
            _gained(metadata.get(_GAINED)),
            tuple(metadata.get(_FORMER, "").split()),
            metadata.get(_CONTINUES),
            metadata.get(_CONTINUED_BY),
            created,
            config.get("ack_wait", 0) / 1e9,
        )

    def starts_after(self, subject: str) -> int:
        """The position up to which events of this subject are not for the subscriber."""
        everything = next((at for each, at in self.gained.items() if _is_wild(each)), 0)
        return max(self.start, self.gained.get(subject, everything))

    def delivers(self, subject: str) -> bool:
        """Whether events of this subject are delivered."""
        return subject in self.subjects or any(map(_is_wild, self.subjects))

    def is_older(self, subjects: frozenset[str]) -> bool:
        """Whether this set of subjects has been replaced by another one."""
        return digest(subjects) in self.former

    def prevails_over(self, subjects: frozenset[str]) -> bool:
        """Whether it stays if neither it nor this other set of subjects was meant as the newer."""
        own, other = (
            (any(map(_is_wild, each)), len(each), digest(each))
            for each in (self.subjects, subjects)
        )
        return own > other

    def replacing(self, subjects: frozenset[str]) -> Subscription:
        """The same, after it has replaced this set of subjects."""
        former = (*self.former, digest(subjects))[-_MAX_FORMER:]
        return msgspec.structs.replace(self, former=former)

    def changed(self, subjects: frozenset[str], end: int) -> Subscription:
        """With other subjects; those that are new begin after position `end`.

        A former set that is wanted again is no former one from then on, nor are those after it.
        """
        if subjects == self.subjects:
            return self
        former = self.replacing(self.subjects).former
        if digest(subjects) in former:
            former = former[: former.index(digest(subjects))]
        gained = {
            each: self.starts_after(each) if self.delivers(each) else end for each in subjects
        }
        if any(map(_is_wild, subjects)):  # then those of before keep theirs
            gained |= {each: self.starts_after(each) for each in self.subjects}
        return msgspec.structs.replace(self, subjects=subjects, gained=gained, former=former)

    def settings(self, metadata: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The consumer's filter and metadata, with others from its `metadata` of before.

        Nothing is delivered once another name has taken over.
        """
        subjects = sorted(self.subjects)
        if self.continued_by is not None:
            domain = subjects[0].partition(".")[0]
            subjects = [f"{domain}.event.{_NOBODY}.{self.continued_by}"]
        others = {
            name: text
            for name, text in (metadata or {}).items()
            if name not in _OWN and not name.startswith(_SERVERS)
        }
        return {**filter_of(subjects), "metadata": {**others, **self._metadata()}}

    def _metadata(self) -> dict[str, str]:
        every = {
            _START_AFTER: str(self.start) if self.start else None,
            _GAINED: msgspec.json.encode(self.gained).decode() if self.gained else None,
            _FORMER: " ".join(self.former) or None,
            _CONTINUES: self.continues,
            _CONTINUED_BY: self.continued_by,
            _SUBJECTS: None if self.continued_by is None else " ".join(sorted(self.subjects)),
        }
        return {name: text for name, text in every.items() if text is not None}


def subjects_of(subjects: Subjects, types: Iterable[type[Event]] | None) -> frozenset[str]:
    """The public subjects of these event types, or the wildcard of all."""
    if types is None:
        return frozenset({subjects.filter("event")})
    return frozenset(subjects.event(each.__aggregate__, each.__action__) for each in types)


def filter_of(subjects: Iterable[str]) -> dict[str, Any]:
    """The settings of a consumer that delivers these subjects."""
    each = sorted(subjects)
    return {"filter_subject": each[0]} if len(each) == 1 else {"filter_subjects": each}


def filtered(config: Mapping[str, Any]) -> frozenset[str]:
    """The subjects that a consumer with these settings delivers."""
    return frozenset(config.get("filter_subjects") or [config.get("filter_subject", ">")])


def digest(subjects: Iterable[str]) -> str:
    """A short text that tells one set of subjects from another."""
    return hashlib.sha256(" ".join(sorted(subjects)).encode()).hexdigest()[:12]


def _is_wild(subject: str) -> bool:
    return "*" in subject or ">" in subject


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isdecimal() and len(text) < 20 else 0


def _gained(text: str | None) -> dict[str, int]:
    try:
        return _decode_gained(text or "{}")
    except UNDECODABLE:
        return {}
