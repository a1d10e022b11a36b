"""What an application declares: its deciders, and what is built on their events."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from eventstore.config import ServiceIdentity, Settings, load_settings
from eventstore.decider.decider import Decider, Domain
from eventstore.errors import ConfigurationError
from eventstore.messages.envelope import utc_now
from eventstore.messages.queries import Query

if TYPE_CHECKING:  # a program that only sends needs no SQLAlchemy
    from sqlalchemy import MetaData, Table

    from eventstore.projections.database.schema import Migrations
    from eventstore.projections.projection import Projection
    from eventstore.projections.queries.queries import QueryHandlers
    from eventstore.subscribers import EventSubscriber, Subscriber

    NewSubscriber = Subscriber | Callable[[Any], EventSubscriber]

_MADE_ONCE = "{0} {1} is given twice to application {2}"


class Declaration:
    """What `Application` is told, checked; its parameters are described there."""

    def __init__(
        self,
        name: str,
        deciders: Iterable[Decider[Any]],
        *,
        projections: Iterable[Projection] = (),
        queries: Iterable[QueryHandlers] = (),
        subscribers: Iterable[NewSubscriber] = (),
        tables: Iterable[MetaData] = (),
        migrations: Migrations | None = None,
        version: str = "0.0.0",
        description: str = "",
        service: str | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self.name = name
        self.domain = Domain(name, deciders)
        self.projections = tuple(projections)
        self.queries = tuple(queries)
        self.subscribers = tuple(subscribers)
        self.tables = tuple(tables)
        self.migrations = migrations
        self.clock = clock
        self._identity = ServiceIdentity(service or name, version, description)
        self._check_tables()
        self._check_projections()
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

    def _check_tables(self) -> None:
        if self.tables:
            from eventstore.projections.table_names import check_table_names

            check_table_names(f"application {self.name}", self.own_tables())

    def _check_projections(self) -> None:
        tables = [table.key for each in self.projections for table in each.tables]
        names = [each.name for each in self.projections]
        subscribers = [each.name for each in self.subscribers if hasattr(each, "name")]
        several = (("projection", names), ("table", tables), ("subscriber", subscribers))
        for what, values in several:
            for value in values:
                if values.count(value) > 1:
                    raise ConfigurationError(_MADE_ONCE.format(what, value, self.name))

    def _check_queries(self) -> None:
        known = {each.name for each in self.projections}
        subjects = [(query.__aggregate__, query.__action__) for query in self.query_types]
        for aggregate, action in subjects:
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
