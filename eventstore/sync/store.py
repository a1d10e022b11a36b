"""The store with blocking methods."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from eventstore.client.client import connect
from eventstore.config import Settings
from eventstore.jetstream.topology import declare, topology
from eventstore.messages.codec import Codec
from eventstore.store.store import EventStore
from eventstore.sync.bridge import Calls, Facade, blocking, iterating


class StoreCalls(Calls[EventStore]):
    """The methods of `EventStore` as blocking ones, with the same parameters, results and errors.

    What reads several events returns a `BlockingIterator`. They may be called by several threads at
    once. A call that takes longer than the timeout raises `RequestTimeout`; an append that was
    interrupted so, or by Ctrl-C, may have been recorded, and can be repeated with the same ids.
    """

    append = blocking(EventStore.append)
    append_all = blocking(EventStore.append_all)
    find = blocking(EventStore.find)
    head = blocking(EventStore.head)
    holds = blocking(EventStore.holds)
    identity = blocking(EventStore.identity)
    last = blocking(EventStore.last)
    last_position = blocking(EventStore.last_position)
    log_end = blocking(EventStore.log_end)
    read = iterating(EventStore.read)
    read_at = blocking(EventStore.read_at)
    read_all = iterating(EventStore.read_all)
    read_foreign = iterating(EventStore.read_foreign)
    read_log = iterating(EventStore.read_log)
    read_page = blocking(EventStore.read_page)


class SyncEventStore(Facade[EventStore], StoreCalls):
    """A connection and a store, for programs without an event loop; a context manager.

    With `declare_log`, the stream of the log is created if it is missing. `timeout` bounds each
    call, in seconds; `options` are those of `EventStore`, such as `clock`. Entering starts a
    thread, connects, and raises what that raises; leaving cancels the calls of other threads.
    Raises `BlockingCallRefused` inside of an event loop, and outside of the `with` block.
    """

    def __init__(
        self,
        settings: Settings,
        codec: Codec,
        *,
        declare_log: bool = False,
        timeout: float = 60.0,
        **options: Any,
    ) -> None:
        super().__init__(_opened(settings, codec, declare_log, options), "store", timeout)


@asynccontextmanager
async def _opened(
    settings: Settings, codec: Codec, declare_log: bool, options: dict[str, Any]
) -> AsyncIterator[EventStore]:
    async with connect(settings) as client:
        if declare_log:
            log = [
                spec
                for spec in topology(codec.subjects, settings.streams)
                if spec.name == codec.subjects.log_stream
            ]
            await declare(client, log)
        async with EventStore(client, codec, **options) as store:
            yield store
