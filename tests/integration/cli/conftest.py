"""Folders with and without a running service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from eventstore.server.embedded import EmbeddedServer
from tests.integration.command_line import CommandLine


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """A folder where a service runs, on its embedded server."""
    cli = CommandLine(tmp_path_factory.mktemp("service"))
    with cli.serving() as running:
        yield cli
        assert running.stopped().status == 0


@pytest.fixture
def lonely(tmp_path: Path, nats_server: EmbeddedServer, domain_name: str) -> CommandLine:
    """A folder where no service runs, and a server that no service has used."""
    (tmp_path / "own.toml").write_text(f'[nats]\nsubject_prefix = "{domain_name}"\n')
    return CommandLine(tmp_path, EVENTSTORE_CONFIG="own.toml", NATS_URL=nats_server.url)
