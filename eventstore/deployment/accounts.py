"""Accounts: the permissions of a domain's users, as accounts of a nats-server's configuration.

The streams and the service are in one account. Every user has another one, which imports exactly
what this user may do: the server does not check a reply subject against the permissions of the
requester. A reply is published in the requester's account, to everything in it and all its imports.
With one user per account, a forged reply subject reaches only what the user may use anyway.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Literal, get_args

from msgspec import Struct

from eventstore.delegation import (
    ConfigurationRequests,
    ConsumerRequests,
    ParkingRequests,
    ProjectionRequests,
    TimerRequests,
)
from eventstore.errors import ConfigurationError, InvalidSubject
from eventstore.jetstream.vocabulary import (
    ACK_PREFIX,
    API_PREFIX,
    Api,
    bucket_stream,
    bucket_subject,
)
from eventstore.messages.subjects import Subject, Subjects, check_name
from eventstore.service.runtime_config import KEYS

INBOXES = "_INBOX_c"
"""The prefix of all users' inboxes; the user's name follows."""

Role = Literal["admin", "developer", "reader", "auditor", "subscriber"]

ROLES: tuple[Role, ...] = get_args(Role)
"""The roles of users; a subscriber is another service."""

_RESERVED = ("discovery", "health", "metrics", "_r_")
_SERVICE = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Import(Struct, frozen=True):
    """An import of an account from another one, under the `local` subject.

    A `service` receives requests, a `stream` sends messages. `subject` is the one in the exporting
    account. `shared`: the service gets the identity of the requester. `many`: a request has many
    replies.
    """

    kind: Literal["service", "stream"]
    subject: str
    local: str
    shared: bool = False
    many: bool = False
    account: str | None = None


class User(Struct, frozen=True):
    """A user with an account of its own: its imports, and the subjects that it replies on."""

    name: str
    account: str
    imports: Sequence[Import]
    answers: Sequence[str] = ()

    @property
    def inbox_prefix(self) -> str:
        """The prefix of the user's inboxes."""
        return f"{INBOXES}.{self.name}"

    @property
    def variable(self) -> str:
        """The environment variable with the password, for the server."""
        return f"NATS_{self.name.replace('-', '_').upper()}_PASSWORD"


_NOBODY: Mapping[Role, Sequence[str]] = MappingProxyType({})


class Roles:
    """The users of a domain and their rights.

    `service` is the service's name in discovery. `users` are the users' names by role; a role
    without any has one user, named like the role. `developer_commands` are those that developers
    may send, as `{aggregate}.{action}` with `*` as a wildcard. A subscriber has a durable consumer
    of the same name on the event stream.

    Raises `InvalidSubject` for illegal names, and `ConfigurationError` for names used twice.
    """

    def __init__(
        self,
        domain: str,
        *,
        service: str,
        users: Mapping[Role, Sequence[str]] = _NOBODY,
        developer_commands: Sequence[str] = ("*.*",),
    ) -> None:
        if domain in _RESERVED:
            raise ConfigurationError(f"a domain cannot be called {domain}: the name is reserved")
        self.subjects = Subjects(domain)
        self.domain = domain
        self.service = check_service(service)
        self.store = f"{domain.upper()}_STORE"
        self.api_prefix = f"{domain}.api"
        self._subscribers = users.get("subscriber") or ["subscriber"]
        self._developer_commands = [_command(domain, each) for each in developer_commands]
        self.users = tuple(
            self._user(role, check_name(role, name))
            for role in ROLES
            for name in users.get(role) or [role]
        )
        self._refuse_repeated_names()

    def exports(self) -> list[Import]:
        """The exports of the store's account: everything that other accounts import from it."""
        every = (each for user in self.users for each in user.imports if each.account is None)
        return list({(each.kind, each.subject): each for each in every}.values())

    def _refuse_repeated_names(self) -> None:
        names = ["NATS_SERVICE_PASSWORD", "NATS_STORE_PASSWORD", *(u.variable for u in self.users)]
        for user in self.users:
            if names.count(user.variable) > 1:
                raise ConfigurationError(
                    f"user {user.name} has the name of another user, role or account; "
                    "choose another one"
                )

    def _user(self, role: Role, name: str) -> User:
        imports: Mapping[Role, Iterator[Import]] = {
            "admin": self._admin(name),
            "developer": self._developer(name),
            "reader": self._reader(),
            "auditor": self._auditor(),
            "subscriber": self._subscriber(name),
        }
        answers = [self.subjects.retry(name)] if role == "subscriber" else []
        return User(name, self._account(name), list(imports[role]), answers)

    def _account(self, name: str) -> str:
        return f"{self.domain.upper()}_{name.upper()}"

    def _reader(self) -> Iterator[Import]:
        yield _stream(f"{self.domain}.event.>")
        yield _stream("discovery.announce")
        yield _service(f"{self.domain}.query.>", shared=True)
        for name in {self.domain: None, self.service: None}:
            yield _service(f"health.{name}", many=True)
            yield _service(f"discovery.{name}", many=True)
        yield _service(f"metrics.{self.domain}", many=True)
        yield _service("$SRV.>", many=True)

    def _developer(self, name: str) -> Iterator[Import]:
        yield from self._reader()
        yield from self._commands(name, self._developer_commands)
        yield from self._timers(name, self._developer_commands)
        yield self._actions(name)

    def _admin(self, name: str) -> Iterator[Import]:
        yield from self._reader()
        yield from self._commands(name, [f"{self.domain}.cmd.*.*"])
        timers = self.subjects.timer_stream
        yield Import(
            "service",
            TimerRequests.any_subject(self.domain),
            self.subjects.new_timer("*", "*", "*"),
            shared=True,
        )
        yield self._api(Api.STREAM_INFO.of(timers))
        yield self._api(Api.MESSAGE_GET.of(timers))
        yield self._api(Api.MESSAGE_DELETE.of(timers))
        yield self._api(Api.DIRECT_GET.of(timers), many=True)
        parked, config = self.subjects.parked_stream, self.subjects.config_bucket
        yield self._api(Api.STREAM_INFO.of(parked))
        yield self._api(Api.MESSAGE_GET.of(parked))
        yield self._api(Api.MESSAGE_DELETE.of(parked))
        yield self._api(Api.DIRECT_GET.of(parked), many=True)
        events = self.subjects.event_stream
        yield self._api(Api.STREAM_INFO.of(events))
        yield self._api(Api.MESSAGE_GET.of(events))
        yield self._api(Api.CONSUMER_LIST.of(events))
        yield self._api(Api.CONSUMER_INFO.of(events, "*"))
        yield self._api(Api.CONSUMER_DELETE.of(events, "*"))
        yield self._consumer(events, "*")
        yield self._api(Api.STREAM_INFO.of(self.subjects.log_stream))
        yield self._api(Api.STREAM_INFO.of(bucket_stream(config)))
        yield self._api(Api.MESSAGE_GET.of(bucket_stream(config)))
        for key in KEYS:
            subject = ConfigurationRequests.subject(self.domain, key)
            yield Import("service", subject, bucket_subject(config, key))
        yield _service(ProjectionRequests.subject(self.domain))
        yield self._actions(name)
        yield _service(f"{self.domain}.retry.*")  # of the service's own subscribers
        for subscriber in self._subscribers:
            subject = self.subjects.retry(subscriber)
            yield Import("service", subject, subject, account=self._account(subscriber))

    def _auditor(self) -> Iterator[Import]:
        log = self.subjects.log_stream
        yield _service(f"{self.domain}.query.audit.*", shared=True)
        yield self._api(Api.STREAM_INFO.of(log))
        yield self._api(Api.MESSAGE_GET.of(log))
        yield self._api(Api.DIRECT_GET.of(log), many=True)
        yield self._consumer(log, "*")
        yield self._api(Api.CONSUMER_NEXT.of(log, "*"), many=True)

    def _subscriber(self, name: str) -> Iterator[Import]:
        events = self.subjects.event_stream
        yield from self._reader()
        yield from self._commands(name, [f"{self.domain}.cmd.*.*"])
        yield from self._timers(name, [f"{self.domain}.cmd.*.*"])
        yield self._actions(name)
        yield self._api(Api.STREAM_INFO.of(events))
        yield self._api(Api.MESSAGE_GET.of(events))
        yield self._api(Api.CONSUMER_INFO.of(events, name))
        yield self._consumer(events, name)
        yield self._api(Api.CONSUMER_NEXT.of(events, name), many=True)
        yield _service(f"{ACK_PREFIX}.{events}.{name}.>")
        parked = self.subjects.parked_stream
        for verb, local in (
            ("PUT", f"{self.domain}.parked.event.{name}.*.*"),
            ("GET", f"{self.api_prefix}.{Api.MESSAGE_GET.of(parked)}"),
            ("DELETE", f"{self.api_prefix}.{Api.MESSAGE_DELETE.of(parked)}"),
        ):
            yield Import("service", ParkingRequests.subject(self.domain, verb, name), local)

    def _commands(self, user: str, subjects: Sequence[str]) -> Iterator[Import]:
        """The commands, and their outcomes: by reply, or from the bucket."""
        yield from (_service(subject, shared=True) for subject in subjects)
        yield _stream(f"{INBOXES}.{user}.>")
        outcomes = self.subjects.outcome_bucket
        yield self._api(Api.DIRECT_GET.of(bucket_stream(outcomes), bucket_subject(outcomes, "*")))

    def _timers(self, user: str, commands: Sequence[str]) -> Iterator[Import]:
        """The timers of a user, for these commands; see `TimerRequests`."""
        for command in commands:
            to = Subject.split(command)
            subject = TimerRequests.subject(
                *(self.domain, "SET", user, "*", to.aggregate, to.action)
            )
            local = self.subjects.new_timer("*", to.aggregate, to.action)
            yield Import("service", subject, local, shared=True)
        timers = self.subjects.timer_stream
        for verb, request in (("GET", Api.MESSAGE_GET), ("DELETE", Api.MESSAGE_DELETE)):
            subject = TimerRequests.subject(self.domain, verb, user)
            yield Import("service", subject, f"{self.api_prefix}.{request.of(timers)}")

    def _actions(self, user: str) -> Import:
        """The record of the user's own actions, under its name; see `ActionLog`."""
        return Import("service", self.subjects.action("*", user), self.subjects.action("*"))

    def _api(self, suffix: str, *, many: bool = False) -> Import:
        """A part of JetStream's API, under a prefix that differs from the account's own API."""
        return Import("service", f"{API_PREFIX}.{suffix}", f"{self.api_prefix}.{suffix}", many=many)

    def _consumer(self, stream: str, name: str) -> Import:
        """The creation of consumers; see `ConsumerRequests`."""
        return _service(ConsumerRequests.subject(self.domain, stream, name))


def check_service(service: str) -> str:
    """A service's name; raises `InvalidSubject` for one that files and subjects cannot have."""
    if not _SERVICE.fullmatch(service):
        raise InvalidSubject(f"service {service!r} is not allowed: 1 to 64 of A-Z, a-z, 0-9 _ -")
    return service


def _command(domain: str, pattern: str) -> str:
    aggregate, _, action = pattern.partition(".")
    for part, name in (("aggregate", aggregate), ("action", action)):
        if name != "*":
            check_name(f"{part} of the command {pattern!r}:", name)
    return f"{domain}.cmd.{aggregate}.{action}"


def _service(subject: str, *, shared: bool = False, many: bool = False) -> Import:
    return Import("service", subject, subject, shared, many)


def _stream(subject: str) -> Import:
    return Import("stream", subject, subject)
