"""Fixtures for pytest, there as soon as the library is installed: a real server, an application.

    async def test_money_is_not_created(run_app: RunApp) -> None:
        async with run_app(app) as bank:
            await bank.execute(Deposit(amount=50), "ann")
            ...

`run_app` runs an application with subjects, streams and a read model of its own, on one nats-server
that all tests of a run share (`eventstore_server`). `eventually` waits for what follows later. With
`clock=eventstore_clock`, timers are due as the test moves that clock. No plugin for asyncio is
needed in particular: tests are run by whichever one you use.
"""

from eventstore.pytest_plugin.clock import AppClock
from eventstore.pytest_plugin.fixtures import (
    RunApp,
    eventstore_clock,
    eventstore_server,
    eventstore_settings,
    run_app,
)
from eventstore.pytest_plugin.waiting import eventually

__all__ = [
    "AppClock",
    "RunApp",
    "eventstore_clock",
    "eventstore_server",
    "eventstore_settings",
    "eventually",
    "run_app",
]
