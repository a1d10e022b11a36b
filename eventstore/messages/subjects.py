"""Subjects and stream names: builds, parses and validates them.

Public subjects are `{domain}.{kind}.{aggregate}.{action}`; the history is stored under
`{domain}.log.{aggregate}.{aggregate_id}`, one literal subject for each aggregate, because the
server serves literal subjects fast and checks expected sequences safely only on them.
"""

from __future__ import annotations

import re
from typing import ClassVar, Literal, get_args
from uuid import UUID

from msgspec import Struct

from eventstore.errors import InvalidId, InvalidSubject
from eventstore.messages.text import bounded

Kind = Literal["cmd", "event", "query"]

_KINDS = get_args(Kind)
NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
AGGREGATE_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")

AggregateId = str | UUID
"""The id of an aggregate: a text of 1 to 128 of A-Z, a-z, 0-9, '_' and '-', or a UUID."""


def check_name(what: str, value: str) -> str:
    """Return `value` if it can name a domain, an aggregate or an action.

    Raises `InvalidSubject` otherwise, naming `what` and the value.
    """
    if not NAME.fullmatch(value):
        raise InvalidSubject(
            f"{what} {value!r} is not allowed: 1 to 64 of a-z, 0-9, '_' and '-', a letter first"
        )
    return value


def check_aggregate_id(value: AggregateId) -> str:
    """Return `value` as text if it can be an aggregate's id; a UUID can, in canonical form.

    Raises `InvalidId` otherwise, naming the value.
    """
    text = str(value) if isinstance(value, UUID) else value
    if not (isinstance(text, str) and AGGREGATE_ID.fullmatch(text)):
        shown = bounded(text, 140) if isinstance(text, str) else text
        raise InvalidId(
            f"aggregate id {shown!r} is not allowed: 1 to 128 of A-Z, a-z, 0-9, '_' and '-', "
            "or a UUID"
        )
    return text


class Subject(Struct, frozen=True, gc=False):
    """The parts of a public subject."""

    domain: str
    kind: Kind
    aggregate: str
    action: str

    @classmethod
    def parse(cls, text: str) -> Subject:
        """Parse `{domain}.{kind}.{aggregate}.{action}`; raises `InvalidSubject`."""
        subject = cls.split(text)
        if subject.kind not in _KINDS:
            raise InvalidSubject(
                f"subject {text!r} has kind {subject.kind!r}; known are {', '.join(_KINDS)}"
            )
        check_name("domain", subject.domain)
        check_name("aggregate", subject.aggregate)
        check_name("action", subject.action)
        return subject

    @classmethod
    def split(cls, text: str) -> Subject:
        """Split a foreign subject, whose tokens are not checked.

        Raises `InvalidSubject` unless it has four of them.
        """
        tokens = text.split(".")
        if len(tokens) != 4:
            raise InvalidSubject(
                f"subject {text!r} is not {{domain}}.{{kind}}.{{aggregate}}.{{action}}"
            )
        return cls(*tokens)  # type: ignore[arg-type]  # a stream's subjects fix the kind

    def __str__(self) -> str:
        return f"{self.domain}.{self.kind}.{self.aggregate}.{self.action}"


class Subjects:
    """The subjects and stream names of one domain.

    `domain` is the first token of every subject and, in capitals, the start of every stream's
    name. Raises `InvalidSubject` if it is not a legal name.
    """

    UNKNOWN_USER: ClassVar[str] = "_"
    """The user in the subject of an action, where the server does not say who that is."""

    def __init__(self, domain: str) -> None:
        self.domain = check_name("domain", domain)
        prefix = domain.upper()
        self.log_stream = f"{prefix}_LOG"
        self.command_stream = f"{prefix}_CMD"
        self.timer_stream = f"{prefix}_TIMER"
        self.event_stream = f"{prefix}_EVENT"
        self.parked_stream = f"{prefix}_PARKED"
        self.action_stream = f"{prefix}_ACTION"
        self.snapshot_bucket = f"{prefix}_SNAPSHOTS"
        self.outcome_bucket = f"{prefix}_OUTCOMES"
        self.config_bucket = f"{prefix}_CONFIG"
        self.key_bucket = f"{prefix}_KEYS"
        self.all_log = f"{domain}.log.*.*"
        self.all_parked = f"{domain}.parked.>"
        self.all_actions = f"{domain}.action.*.*"
        self.importing = f"{domain}-import."  # the prefix of the log's subjects during an import
        self._log_prefix = f"{domain}.log."

    def command(self, aggregate: str, action: str) -> str:
        """The subject that a command is sent to."""
        return f"{self.domain}.cmd.{aggregate}.{action}"

    def event(self, aggregate: str, action: str) -> str:
        """The subject that the feed publishes an event to."""
        return f"{self.domain}.event.{aggregate}.{action}"

    def query(self, aggregate: str, action: str) -> str:
        """The subject that a query is sent to."""
        return f"{self.domain}.query.{aggregate}.{action}"

    def new_timer(self, name: str, aggregate: str, action: str) -> str:
        """The subject that a timer is set on; a wildcard if the name is one.

        It names the command, so that a permission can; the stream stores it under `timer`.
        """
        return f"{self.domain}.timer.{name}.{aggregate}.{action}"

    def timer(self, name: str = "*") -> str:
        """The subject that a timer is stored under until it is due; by default, of all timers."""
        return f"{self.domain}.timer.{name}"

    def due(self, aggregate: str = "*", action: str = "*") -> str:
        """The subject of the commands of timers that are due, from where they are queued."""
        return f"{self.domain}.due.{aggregate}.{action}"

    def retry(self, subscriber: str) -> str:
        """The subject of requests to a subscriber to retry a parked event."""
        return f"{self.domain}.retry.{check_name('subscriber', subscriber)}"

    def parked_events(self, subscriber: str) -> str:
        """The wildcard subject of the events that a subscriber has parked."""
        return f"{self.domain}.parked.event.{check_name('subscriber', subscriber)}.>"

    def action(self, action_id: str, user: str = UNKNOWN_USER) -> str:
        """The subject of the record of an action.

        Everybody publishes under `UNKNOWN_USER`, which the account of a user maps to its name.
        """
        return f"{self.domain}.action.{user}.{action_id}"

    def log(self, aggregate: str, aggregate_id: AggregateId) -> str:
        """The subject that holds one aggregate's history; raises `InvalidId`."""
        return f"{self._log_prefix}{aggregate}.{check_aggregate_id(aggregate_id)}"

    def log_of(self, aggregate: str) -> str:
        """The wildcard subject of the histories of all aggregates of a kind."""
        return f"{self._log_prefix}{check_name('aggregate', aggregate)}.*"

    def filter(self, kind: Kind, aggregate: str = "*", action: str = "*") -> str:
        """The wildcard subject of a kind, narrowed to an aggregate or an action if given."""
        return f"{self.domain}.{kind}.{aggregate}.{action}"

    def parse_log(self, subject: str) -> tuple[str, str]:
        """The aggregate and the id that a subject of the log names; raises `InvalidSubject`."""
        prefix, rest = subject[: len(self._log_prefix)], subject[len(self._log_prefix) :]
        aggregate, _, aggregate_id = rest.partition(".")
        if prefix != self._log_prefix or not aggregate or not aggregate_id or "." in aggregate_id:
            raise InvalidSubject(
                f"subject {subject!r} is not {self._log_prefix}{{aggregate}}.{{id}}"
            )
        return aggregate, aggregate_id


def parse_log_subject(subject: str) -> tuple[str, str]:
    """As `Subjects.parse_log`, for a log of any domain."""
    tokens = subject.split(".")
    if len(tokens) != 4 or tokens[1] != "log" or "" in tokens:
        raise InvalidSubject(f"subject {subject!r} is not {{domain}}.log.{{aggregate}}.{{id}}")
    return tokens[2], tokens[3]
