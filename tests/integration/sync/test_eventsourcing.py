"""The `eventsourcing` library's own suites of recorders, on this store."""

from __future__ import annotations

import secrets
from typing import Any, ClassVar, TypeVar
from unittest import TestCase
from uuid import UUID

import pytest
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import AggregateRecorder
from eventsourcing.tests.persistence import (
    AggregateRecorderTestCase,
    ApplicationRecorderTestCase,
    NonInterleavingNotificationIDsBaseCase,
    ProcessRecorderTestCase,
    TrackingRecorderTestCase,
)

from eventstore.config import Settings
from tests.integration.sync.recorders import (
    STORES,
    Factory,
    StoreAggregateRecorder,
    StoreApplicationRecorder,
    StoreProcessRecorder,
    open_store,
)

R = TypeVar("R", bound=StoreAggregateRecorder)


class OnTheServer(TestCase):
    """Opens each recorder on a log of its own."""

    @pytest.fixture(autouse=True)
    def _server(self, settings: Settings) -> None:
        self.settings = settings

    def opened(self, recorder: type[R]) -> R:
        domain = f"t{secrets.token_hex(4)}"
        return recorder(self.enterContext(open_store(self.settings, domain)))


class TestAggregateRecorder(OnTheServer, AggregateRecorderTestCase):
    def create_recorder(self) -> AggregateRecorder:
        return self.opened(StoreAggregateRecorder)


class TestApplicationRecorder(OnTheServer, ApplicationRecorderTestCase):
    def create_recorder(self) -> StoreApplicationRecorder:
        return self.opened(StoreApplicationRecorder)

    def test_insert_subscribe(self) -> None:
        self.optional_test_insert_subscribe()


class TestTrackingRecorder(OnTheServer, TrackingRecorderTestCase):
    def create_recorder(self) -> StoreProcessRecorder:
        return self.opened(StoreProcessRecorder)


class TestProcessRecorder(OnTheServer, ProcessRecorderTestCase):
    def create_recorder(self) -> StoreProcessRecorder:
        return self.opened(StoreProcessRecorder)


class TestNonInterleavingNotificationIDs(OnTheServer, NonInterleavingNotificationIDsBaseCase):
    def create_recorder(self) -> StoreApplicationRecorder:
        return self.opened(StoreApplicationRecorder)


class Dog(Aggregate):
    @event("Registered")
    def __init__(self, name: str) -> None:
        self.name = name
        self.tricks: list[str] = []

    @event("TrickAdded")
    def add_trick(self, trick: str) -> None:
        self.tricks.append(trick)


class Kennel(Application[UUID]):
    snapshotting_intervals: ClassVar[dict[type[Any], int]] = {Dog: 3}


def test_an_application_of_that_library_runs_on_the_store(
    settings: Settings, domain_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_store(settings, domain_name) as store:
        monkeypatch.setitem(STORES, domain_name, store)
        env = {"PERSISTENCE_MODULE": Factory.__module__, "STORE": domain_name}
        kennel = Kennel({**env, "IS_SNAPSHOTTING_ENABLED": "y"})
        dog = Dog(name="Fido")
        kennel.save(dog)
        for trick in ("sit", "roll", "beg", "fetch"):
            dog = kennel.repository.get(dog.id)
            dog.add_trick(trick)
            kennel.save(dog)
        assert kennel.repository.get(dog.id).tricks == ["sit", "roll", "beg", "fetch"]
        assert kennel.repository.get(dog.id, version=2).tricks == ["sit"]
        assert kennel.snapshots is not None
        assert [each.originator_version for each in kennel.snapshots.get(dog.id)] == [3]
        section = kennel.notification_log["1,10"]
        assert [each.topic.rpartition(".")[2] for each in section.items] == [
            *("Registered", "TrickAdded", "TrickAdded", "TrickAdded", "TrickAdded")
        ]
        assert {each.type for each in store.read("snapshot", dog.id)} == {
            "eventsourcing.domain:Snapshot"
        }
