"""Blocking calls for programs without an event loop: the store and the application client.

A facade only: an event loop in a thread of its own does the work of the asynchronous classes.

    with SyncEventStore(settings, codec) as store:
        store.append("account", "ann", Deposited(amount=50))
        for event in store.read("account", "ann"):
            print(event.data)

    with SyncApplicationClient(app.client()) as bank:
        bank.execute(Deposit(amount=50), "ann")
"""

from eventstore.sync.client import SyncApplicationClient
from eventstore.sync.iterator import BlockingIterator
from eventstore.sync.store import StoreCalls, SyncEventStore

__all__ = ["BlockingIterator", "StoreCalls", "SyncApplicationClient", "SyncEventStore"]
