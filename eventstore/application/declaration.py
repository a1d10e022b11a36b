"""What an application declares: its deciders, and what is built on their events."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from copy import copy
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self, TypeVar

from eventstore.config import ServiceIdentity, ServiceSettings, Settings, load_settings
from eventstore.config.checks import allowed
from eventstore.decider.decider import Decider
from eventstore.decider.domain import Domain
from eventstore.errors import ConfigurationError, DeciderError
from eventstore.messages.codec import check_events
from eventstore.messages.envelope import utc_now
from eventstore.messages.functions import is_async
from eventstore.messages.queries import Query
from eventstore.messages.text import bounded

if TYPE_CHECKING:  # a program that only sends needs no SQLAlchemy
    from sqlalchemy import MetaData, Table

    from eventstore.processes import Process
    from eventstore.projections.database.schema import Migrations
    from eventstore.projections.projection import Projection
    from eventstore.projections.queries.queries import QueryHandlers
    from eventstore.subscribers import EventSubscriber, Subscriber

    NewSubscriber = Subscriber | Callable[[Any], EventSubscriber]

T = TypeVar("T")

_AUDIT = "audit"
_ANSWERED = [
    ("command", "get_status"),
    *(("audit", each) for each in ("actions", "history", "search", "trace")),
    *(("process", each) for each in ("get", "list")),
    *(("projection", each) for each in ("list", "parked")),
]
_MADE_ONCE = "{0} {1} is given twice to application {2}"


class Declaration:
    """The parts of an `Application`, checked; its parameters are described there."""

    def __init__(
        self,
        name: str,
        deciders: Iterable[Decider[Any]],
        *,
        projections: Iterable[Projection] = (),
        queries: Iterable[QueryHandlers] = (),
        subscribers: Iterable[NewSubscriber] = (),
        processes: Iterable[Process[Any]] = (),
        tables: Iterable[MetaData] = (),
        migrations: Migrations | None = None,
        version: str = "0.0.0",
        description: str = "",
        service: str | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self.name = name
        self._where = f"application {name}"
        own = self._each("deciders", deciders, "Decider")
        self.processes = self._each("processes", processes, "Process")
        self._check_processes(own)
        self.domain = Domain(name, [*own, *(each.decider for each in self.processes)])
        self.projections = self._each("projections", projections, "Projection")
        self.queries = self._each("queries", queries, "QueryHandlers")
        self.subscribers = self._each("subscribers", subscribers, "Subscriber")
        self.tables = self._each("tables", tables, "MetaData")
        self.migrations = migrations
        self.clock = self._checked(clock)
        self._identity = self._checked_identity(service or name, version, description)
        self._check_names()
        self._check_tables()
        self._check_events()
        self._check_queries()

    @property
    def query_types(self) -> list[type[Query[Any]]]:
        """The queries that it answers, in the order of their declaration."""
        return [query for group in self.queries for query in group.handlers]

    def own_tables(self) -> list[Table]:
        """The tables to be created at the start: none that migrations of the team's own create."""
        named = [table for metadata in self.tables for table in metadata.sorted_tables]
        if self.migrations is None:
            named += [table for each in self.projections for table in each.tables]
        return list(dict.fromkeys(named))

    def identity(self, settings: Settings) -> ServiceIdentity:
        """The service's name, version and description, if the settings do not overrule them."""
        return settings.nats.service.identity(self._identity)

    def settings(self, settings: Settings | None = None) -> Settings:
        """The settings, by default those of the environment, with the name as subject prefix.

        Raises `ConfigurationError`.
        """
        return (load_settings() if settings is None else settings).for_domain(self.name)

    def by_clock(self, clock: Callable[[], datetime]) -> Self:
        """The same application by another clock, such as one that a test moves."""
        other = copy(self)
        other.clock = self._checked(clock)
        return other

    def _checked(self, clock: Callable[[], datetime]) -> Callable[[], datetime]:
        if not callable(clock) or is_async(clock):
            raise ConfigurationError(
                f"{self._where}: clock must be a function that returns the time, and not async"
            )
        return clock

    def _each(self, what: str, given: Iterable[T], kind: str) -> tuple[T, ...]:
        """What is given, each of a kind that may not have been imported yet."""
        if not isinstance(given, Iterable):
            raise ConfigurationError(f"{self._where}: {what} is one {_kind(given)}: write [...]")
        found = tuple(given)
        for each in found:
            is_maker = callable(each) and not inspect.iscoroutinefunction(each)
            if kind in {base.__name__ for base in type(each).__mro__}:
                continue
            if not (kind == "Subscriber" and is_maker):
                problem = f"{what} has {bounded(repr(each), 80)}, a {_kind(each)}"
                raise ConfigurationError(f"{self._where}: {problem} and not a {kind}")
        return found

    def _checked_identity(self, name: str, version: str, description: str) -> ServiceIdentity:
        for what, value in (("name", name), ("version", version)):
            try:
                ServiceSettings(**{what: value})
            except ConfigurationError:
                words = allowed(f"nats.service.{what}", str)
                problem = f"the service's {what} {value!r} is not {words}"
                raise ConfigurationError(f"{self._where}: {problem}") from None
        return ServiceIdentity(name, version, description)

    def _check_tables(self) -> None:
        if not (self.tables or self.projections):
            return
        from eventstore.projections.table_names import check_table_names

        check_table_names(self._where, self.own_tables())
        known: dict[str, Any] = {}
        for table in (
            *(table for each in self.tables for table in each.sorted_tables),
            *(table for each in self.projections for table in each.tables),
        ):
            # SQLite does not tell names apart by the case of letters.
            if known.setdefault(table.key.casefold(), table) is not table:
                raise ConfigurationError(f"{self._where} has two definitions of table {table.key}")

    def _check_names(self) -> None:
        tables = [table.key for each in self.projections for table in each.tables]
        names = [each.name for each in self.projections]
        subscribers = [each.name for each in self.subscribers if hasattr(each, "name")]
        subscribers += [each.name for each in self.processes]
        several = (("projection", names), ("table", tables), ("subscriber", subscribers))
        for what, values in several:
            for value in values:
                if values.count(value) > 1:
                    raise ConfigurationError(_MADE_ONCE.format(what, value, self.name))
        if _AUDIT in names:
            raise ConfigurationError(
                f"{self._where}: projection {_AUDIT} is the library's; rename it"
            )

    def _check_processes(self, deciders: Iterable[Decider[Any]]) -> None:
        """Refuse processes that are not complete, or that send commands nobody carries out."""
        names = {each.aggregate for each in deciders}
        commands = {command for each in deciders for command in each.command_types}
        names_of_processes = [each.name for each in self.processes]
        for each in self.processes:
            where = f"{self._where}: process {each.name}"
            if each.name in names:
                raise ConfigurationError(f"{where} has the name of a decider: rename it")
            if names_of_processes.count(each.name) > 1:
                raise ConfigurationError(_MADE_ONCE.format("process", each.name, self.name))
            try:
                each.check()
            except DeciderError as error:
                raise ConfigurationError(f"{self._where}: {error}") from error
            for command in each.command_types:
                if command not in commands:
                    raise ConfigurationError(
                        f"{where} sends {command.__name__}, which no decider of {self.name} decides"
                    )

    def _check_events(self) -> None:
        """Refuse handlers of events that the domain does not have."""
        subscribers: list[Any] = [each for each in self.subscribers if hasattr(each, "handlers")]
        kinds = (
            ("projection", self.projections),
            ("subscriber", subscribers),
            ("process", self.processes),
        )
        for what, each in ((kind, each) for kind, declared in kinds for each in declared):
            where, events = f"{self._where}: {what} {each.name}", each.event_types or ()
            check_events(where, events, self.domain.codec, ConfigurationError)

    def _check_queries(self) -> None:
        known = {each.name for each in self.projections}
        subjects = [(query.__aggregate__, query.__action__) for query in self.query_types]
        for aggregate, action in subjects:
            if (aggregate, action) in _ANSWERED:
                raise ConfigurationError(
                    f"{self._where}: the query {aggregate}.{action} is the library's; rename it"
                )
            if subjects.count((aggregate, action)) > 1:
                subject = f"{aggregate}.{action}"
                raise ConfigurationError(_MADE_ONCE.format("the query", subject, self.name))
        for group in self.queries:
            missing = set(group.projections) - known
            if missing:
                raise ConfigurationError(
                    f"application {self.name}: queries read the projection "
                    f"{', '.join(sorted(missing))}, which it does not have: add it to projections"
                )


def _kind(given: object) -> str:
    return type(given).__name__
