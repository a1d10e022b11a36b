"""Fixtures for pytest, there as soon as the library is installed: a real server, an application.

    async def test_money_is_not_created(run_app: RunApp) -> None:
        async with run_app(app) as bank:
            await bank.execute(Deposit(amount=50), "ann")
            ...

`run_app` runs an application with subjects, streams and a read model of its own, on one nats-server
that all tests of a run share (`eventstore_server`). `eventually` waits for what follows later. They
need no plugin for asyncio in particular: tests are run by whichever one you use.
"""

from eventstore.pytest_plugin.fixtures import (
    RunApp,
    eventstore_server,
    eventstore_settings,
    run_app,
)
from eventstore.pytest_plugin.waiting import eventually

__all__ = ["RunApp", "eventstore_server", "eventstore_settings", "eventually", "run_app"]
