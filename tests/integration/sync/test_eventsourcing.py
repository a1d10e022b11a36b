"""The `eventsourcing` library's own suites of recorders, on this store."""

from __future__ import annotations

import secrets
from typing import TypeVar
from unittest import TestCase

import pytest
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
