"""The client of an application with blocking methods."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from eventstore.application.client import Requests
from eventstore.store.store import EventStore
from eventstore.sync.bridge import Facade, blocking
from eventstore.sync.store import StoreCalls


class SyncApplicationClient(Facade[Requests]):
    """A client, or a running application, for programs without an event loop; a context manager.

        with SyncApplicationClient(app.client()) as bank:
            outcome = bank.execute(Deposit(amount=50), "ann")
            view = bank.ask(GetAccount(id="ann"), wait_for=outcome.position)
            for event in bank.store.read("account", "ann"): ...

    Of `app.client()`, or of `app.running()`, whose service then runs inside of this process. Its
    methods, and those of `store`, have the same parameters, results and errors as the asynchronous
    ones. `timeout`, threads, Ctrl-C and errors are as in `SyncEventStore`.
    """

    def __init__(
        self, opening: AbstractAsyncContextManager[Requests], *, timeout: float = 60.0
    ) -> None:
        super().__init__(opening, "client", timeout)
        self.store = _ClientStore(self)

    execute = blocking(Requests.execute)
    send = blocking(Requests.send)
    schedule = blocking(Requests.schedule)
    cancel = blocking(Requests.cancel)
    load = blocking(Requests.load)
    ask = blocking(Requests.ask)


class _ClientStore(StoreCalls):
    """The store of a client."""

    def __init__(self, client: SyncApplicationClient) -> None:
        super().__init__(client._thread, client._timeout)
        self._client = client

    def _target(self) -> EventStore:
        return self._client._target().store
