"""The fixtures. What they need is imported when a test asks for one."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from eventstore.application import Application
    from eventstore.application.service import RunningApplication
    from eventstore.config import Settings
    from eventstore.pytest_plugin.clock import AppClock
    from eventstore.server import EmbeddedServer


class RunApp(Protocol):
    """The type of the fixture `run_app`: `async with run_app(app) as service`."""

    def __call__(
        self, app: Application, *, clock: AppClock | None = None, **parts: bool
    ) -> AbstractAsyncContextManager[RunningApplication]:
        """Run an application, or some of its parts, as `Application.running` does.

        By a `clock`, it has that one's time, and its timers are due as the test moves it.
        """
        ...


@pytest.fixture(scope="session")
def eventstore_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """One real nats-server for all tests of a run (of a worker, with pytest-xdist)."""
    from eventstore.server import EmbeddedServer

    server = EmbeddedServer(tmp_path_factory.mktemp("nats"))
    asyncio.run(server.start())
    try:
        yield server
    finally:
        asyncio.run(server.stop())


@pytest.fixture
def eventstore_settings(
    eventstore_server: EmbeddedServer, tmp_path: Path
) -> Callable[[str], Settings]:
    """Settings of an application, by its name: with subjects and a read model of the test's own."""
    from eventstore.config import NatsSettings, Settings

    def settings(name: str) -> Settings:
        prefix = f"{name[:40]}-{secrets.token_hex(4)}"
        own = Settings(nats=NatsSettings(subject_prefix=prefix)).with_url(eventstore_server.url)
        return own.in_directory(tmp_path / prefix)

    return settings


@pytest.fixture
def eventstore_clock() -> AppClock:
    """A clock that the test moves: `run_app(app, clock=eventstore_clock)`."""
    from eventstore.pytest_plugin.clock import AppClock

    return AppClock()


@pytest.fixture
def run_app(eventstore_settings: Callable[[str], Settings]) -> RunApp:
    """Run applications for this test alone.

    It is called with an application: `async with run_app(app) as service`.
    Two of the same application in one test do not know of each other either.
    """

    def run(
        app: Application, *, clock: AppClock | None = None, **parts: bool
    ) -> AbstractAsyncContextManager[RunningApplication]:
        settings = eventstore_settings(app.name)
        if clock is None:
            return app.running(settings, **parts)  # type: ignore[arg-type]  # only parts are bool
        return _by_clock(app, clock, settings, parts)

    return run


@asynccontextmanager
async def _by_clock(
    app: Application, clock: AppClock, settings: Settings, parts: dict[str, bool]
) -> AsyncIterator[RunningApplication]:
    run = app.by_clock(clock).running
    async with (
        run(settings, **parts) as service,  # type: ignore[arg-type]  # only parts are bool
        clock.of(service),
    ):
        yield service
