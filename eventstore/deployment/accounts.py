"""Accounts: who may do what in a domain, as the accounts of a nats-server's configuration.

The streams and the service are in one account. Every role has an account of its own that imports
exactly what the role may do, because a reply subject is not checked against the rights of whoever
names it: an answer is published in the account of the request, and can reach everything that this
account imports. Users of one role can therefore do nothing by a detour that they may not do anyway.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from msgspec import Struct

from eventstore.configuration import KEYS
from eventstore.consumer_requests import ConsumerRequests
from eventstore.errors import ConfigurationError
from eventstore.subjects import Subjects, check_name

__all__ = ["INBOXES", "ROLES", "Roles", "User"]

INBOXES = "_INBOX_c"
"""Each user's inboxes are below this token and the user's name."""

ROLES = ("admin", "developer", "reader", "auditor")
"""The roles besides the service itself, and the subscribers, which have names of their own."""

_RESERVED = ("discovery", "health", "metrics", "_r_")
_API = "$JS.API"


class Import(Struct, frozen=True):
    """What an account takes over from another one, as its users name it.

    A `service` takes requests, a `stream` sends messages. `subject` is the name in the account
    that exports it. `shared`: the service learns who asks. `many`: a request has many answers.
    """

    kind: Literal["service", "stream"]
    subject: str
    local: str
    shared: bool = False
    many: bool = False
    account: str | None = None


class User(Struct, frozen=True):
    """A user, alone in an account: its imports, and what else it may subscribe to."""

    name: str
    account: str
    imports: Sequence[Import]
    answers: Sequence[str] = ()

    @property
    def inbox_prefix(self) -> str:
        """What the user's inboxes begin with."""
        return f"{INBOXES}.{self.name}"

    @property
    def variable(self) -> str:
        """The environment variable that holds the password when the server starts."""
        return f"NATS_{self.name.replace('-', '_').upper()}_PASSWORD"


class Roles:
    """The users of a domain and their rights.

    `service` is the service's name in discovery. `developer_commands` are the commands that
    developers may send, as `{aggregate}.{action}` with `*` as a wildcard; `subscribers` are other
    services, each with a durable consumer of its own name on the event stream.

    Raises `InvalidSubject` for illegal names, and `ConfigurationError` for names used twice.
    """

    def __init__(
        self,
        domain: str,
        *,
        service: str,
        developer_commands: Sequence[str] = ("*.*",),
        subscribers: Sequence[str] = ("subscriber",),
    ) -> None:
        if domain in _RESERVED:
            raise ConfigurationError(f"a domain cannot be called {domain}: it has another meaning")
        self.subjects = Subjects(domain)
        self.domain = domain
        self.service = service
        self.store = f"{domain.upper()}_STORE"
        self.api_prefix = f"{domain}.api"
        self.subscribers = tuple(check_name("subscriber", name) for name in subscribers)
        self._developer_commands = [f"{domain}.cmd.{each}" for each in developer_commands]
        self.users = (
            self._user("admin", self._admin()),
            self._user("developer", self._developer()),
            self._user("reader", self._reader()),
            self._user("auditor", self._auditor()),
            *(self._subscriber(name) for name in self.subscribers),
        )
        self._refuse_repeated_names()

    def exports(self) -> list[Import]:
        """What the store's account offers: all that any other account imports of it, once."""
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

    def _user(self, name: str, imports: Iterator[Import], answers: Sequence[str] = ()) -> User:
        return User(name, f"{self.domain.upper()}_{name.upper()}", list(imports), answers)

    def _reader(self) -> Iterator[Import]:
        yield from self._events()
        yield _service(f"{self.domain}.query.>", shared=True)
        yield from self._face()

    def _developer(self) -> Iterator[Import]:
        yield from self._reader()
        yield from self._commands(self._developer_commands)

    def _admin(self) -> Iterator[Import]:
        yield from self._reader()
        yield from self._commands([f"{self.domain}.cmd.*.*"])
        parked, config = self.subjects.parked_stream, self.subjects.config_bucket
        yield self._api(f"STREAM.INFO.{parked}")
        yield self._api(f"STREAM.MSG.GET.{parked}")
        yield self._api(f"STREAM.MSG.DELETE.{parked}")
        yield self._api(f"DIRECT.GET.{parked}", many=True)
        yield self._api(f"STREAM.INFO.KV_{config}")
        yield self._api(f"STREAM.MSG.GET.KV_{config}")
        yield from (_service(f"$KV.{config}.{key}") for key in KEYS)
        yield from (self._retry_of(name) for name in self.subscribers)

    def _auditor(self) -> Iterator[Import]:
        log = self.subjects.log_stream
        yield _service(f"{self.domain}.query.audit.*", shared=True)
        yield self._api(f"STREAM.INFO.{log}")
        yield self._api(f"STREAM.MSG.GET.{log}")
        yield self._api(f"DIRECT.GET.{log}", many=True)
        yield self._consumer(log, "*")
        yield self._api(f"CONSUMER.MSG.NEXT.{log}.*", many=True)

    def _subscriber(self, name: str) -> User:
        return self._user(name, self._subscription(name), [self.subjects.retry(name)])

    def _subscription(self, name: str) -> Iterator[Import]:
        events = self.subjects.event_stream
        yield from self._reader()
        yield from self._commands([f"{self.domain}.cmd.*.*"])
        yield self._api(f"STREAM.INFO.{events}")
        yield self._api(f"STREAM.MSG.GET.{events}")
        yield self._api(f"CONSUMER.INFO.{events}.{name}")
        yield self._consumer(events, name)
        yield self._api(f"CONSUMER.MSG.NEXT.{events}.{name}", many=True)
        yield _service(f"$JS.ACK.{events}.{name}.>")

    def _events(self) -> Iterator[Import]:
        yield _stream(f"{self.domain}.event.>")
        yield _stream("discovery.announce")

    def _face(self) -> Iterator[Import]:
        yield from (_service(f"health.{name}", many=True) for name in (self.domain, self.service))
        yield _service(f"discovery.{self.service}", many=True)
        yield _service(f"metrics.{self.domain}", many=True)
        yield _service("$SRV.>", many=True)

    def _commands(self, subjects: Sequence[str]) -> Iterator[Import]:
        """The commands, and how their outcomes come back: to an inbox, or looked up later."""
        yield from (_service(subject, shared=True) for subject in subjects)
        yield _stream(f"{INBOXES}.>")
        outcomes = self.subjects.outcome_bucket
        yield self._api(f"DIRECT.GET.KV_{outcomes}.$KV.{outcomes}.*")

    def _api(self, suffix: str, *, many: bool = False) -> Import:
        """A part of JetStream's API, under a prefix that no account has an API of its own at."""
        return Import("service", f"{_API}.{suffix}", f"{self.api_prefix}.{suffix}", many=many)

    def _consumer(self, stream: str, name: str) -> Import:
        """The making of consumers, which the service does for others: see `ConsumerRequests`."""
        return _service(ConsumerRequests.subject(self.domain, stream, name))

    def _retry_of(self, name: str) -> Import:
        subject = self.subjects.retry(name)
        account = f"{self.domain.upper()}_{name.upper()}"
        return Import("service", subject, subject, account=account)


def _service(subject: str, *, shared: bool = False, many: bool = False) -> Import:
    return Import("service", subject, subject, shared, many)


def _stream(subject: str) -> Import:
    return Import("stream", subject, subject)
