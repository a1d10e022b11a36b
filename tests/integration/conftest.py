"""Fixtures of the tests that use the store: a small domain, and its log on the shared server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from eventstore.client.client import Client
from eventstore.messages.codec import Codec
from eventstore.server.embedded import EmbeddedServer
from eventstore.store.store import EventStore
from tests.conftest import started_server
from tests.integration.ledger import declare_log, ledger


@pytest.fixture(scope="session")
def other_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """A second server, so that the same domain can exist twice; never stop it."""
    with started_server(tmp_path_factory.mktemp("other")) as server:
        yield server


@pytest.fixture
def codec(domain_name: str) -> Codec:
    return ledger(domain_name)


@pytest.fixture
async def store(client: Client, codec: Codec) -> AsyncIterator[EventStore]:
    await declare_log(client, codec)
    async with EventStore(client, codec) as store:
        yield store
