"""The store's blocking facade: the same calls without an event loop, from any thread."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from eventstore import NO_STREAM, Append
from eventstore.config import Settings
from eventstore.errors import (
    BlockingCallRefused,
    Conflict,
    ConnectFailed,
    InvalidRange,
    StreamMissing,
    UnknownType,
)
from eventstore.messages.codec import Codec
from eventstore.server.embedded import EmbeddedServer
from eventstore.sync import SyncEventStore
from tests.conftest import settings_for
from tests.integration.ledger import Deposited, Opened
from tests.ports import free_ports

ROOT = Path(__file__).parents[3]


@pytest.fixture
def blocking(settings: Settings, codec: Codec) -> Iterator[SyncEventStore]:
    with SyncEventStore(settings, codec, declare_log=True) as store:
        yield store


def test_it_does_what_the_store_does(blocking: SyncEventStore) -> None:
    first = blocking.append("account", "a", [Opened(), Deposited(amount=2)], expected=NO_STREAM)
    blocking.append_all(
        Append(aggregate="account", aggregate_id="a", events=[Deposited()], expected=first.head),
        Append(aggregate="account", aggregate_id="b", events=[Opened()]),
    )
    assert [event.version for event in blocking.read("account", "a", after=1)] == [2, 3]
    assert [event.version for event in blocking.read("account", "a", backwards=True)] == [3, 2, 1]
    assert [event.position for event in blocking.read_all(limit=3)] == [1, 2, 3]
    assert [event.position for event in blocking.read_log()] == [1, 2, 3, 4]
    assert list(blocking.read_foreign()) == []
    assert len(blocking.read_page(max_events=2).events) == 2
    last = blocking.last("account", "a")
    assert last is not None
    assert blocking.find("account", "a", last.id) == last
    assert blocking.head("account", "a").position == blocking.last_position("account", "a") == 3
    assert blocking.holds("account", "a", first.head)
    assert blocking.read_at(last.position) == [last]
    assert blocking.log_end() == 4
    assert blocking.identity()


def test_errors_are_those_of_the_store(blocking: SyncEventStore) -> None:
    with pytest.raises(Conflict):
        blocking.append("account", "a", Opened(), expected=3)
    with pytest.raises(InvalidRange):
        next(blocking.read("account", "a", limit=0))
    with pytest.raises(UnknownType):
        list(blocking.read("acount", "a"))
    reading = blocking.read("account", "none")
    assert (list(reading), list(reading)) == ([], [])


def test_many_threads_share_it(blocking: SyncEventStore) -> None:
    with ThreadPoolExecutor(8) as threads:
        written = list(
            threads.map(lambda n: blocking.append("account", "a", Deposited(amount=n)), range(80))
        )
        read = list(threads.map(lambda _: list(blocking.read("account", "a")), range(8)))
    assert sorted(each.version for each in written) == list(range(1, 81))
    assert all([event.version for event in each] == list(range(1, 81)) for each in read)


def test_reading_runs_ahead_within_bounds(blocking: SyncEventStore) -> None:
    for _ in range(3):
        blocking.append("account", "a", [Deposited()] * 400)
    reading = blocking.read_all()
    first = [next(reading).position for _ in range(5)]
    rest = [event.position for event in reading]
    assert first + rest == list(range(1, 1201))
    for _ in blocking.read_all():
        break  # what is left is closed when it is collected
    with blocking.read_all() as early:
        next(early)
    assert list(early) == []


def test_a_live_reading_waits_for_others_and_is_ended_by_any_thread(
    blocking: SyncEventStore,
) -> None:
    seen: list[int] = []
    came, live = threading.Semaphore(0), blocking.read_all(live=True)

    def watch() -> None:
        for event in live:
            seen.append(event.position)
            came.release()

    with ThreadPoolExecutor(1) as threads:
        watching = threads.submit(watch)
        for _ in range(3):
            blocking.append("account", "a", Deposited())
            assert came.acquire(timeout=30)
        live.close()
        watching.result(30)
    assert seen == [1, 2, 3]


def test_leaving_it_ends_what_other_threads_wait_for(settings: Settings, codec: Codec) -> None:
    with ThreadPoolExecutor(1) as threads:
        with SyncEventStore(settings, codec, declare_log=True) as store:
            store.append("account", "a", Opened())
            live = store.read_all(live=True)
            assert next(live).position == 1
            waiting = threads.submit(next, live)
        with pytest.raises(BlockingCallRefused, match="not open"):
            waiting.result(30)


def test_it_is_refused_when_it_is_not_open(settings: Settings, codec: Codec) -> None:
    store = SyncEventStore(settings, codec, declare_log=True)
    with pytest.raises(BlockingCallRefused, match="the store is not open"):
        store.log_end()
    with store:
        assert store.log_end() == 0
    for call in (store.log_end, store.read_all, lambda: store.append("account", "a", Opened())):
        with pytest.raises(BlockingCallRefused, match="the store is not open"):
            call()
    with pytest.raises(BlockingCallRefused, match="opened before"), store:
        pass


async def test_it_is_refused_inside_of_an_event_loop(settings: Settings, codec: Codec) -> None:
    with pytest.raises(BlockingCallRefused, match=r"asyncio\.to_thread"):
        SyncEventStore(settings, codec).__enter__()

    def use() -> SyncEventStore:
        with SyncEventStore(settings, codec, declare_log=True) as store:
            store.append("account", "a", Opened())
            asyncio.run(refused(store))
            return store

    async def refused(store: SyncEventStore) -> None:
        for call in (store.log_end, store.read_all):
            with pytest.raises(BlockingCallRefused, match="an event loop runs in this thread"):
                call()
        assert await asyncio.to_thread(store.log_end) == 1

    await asyncio.to_thread(use)


def test_what_opening_raises_is_raised(settings: Settings, codec: Codec) -> None:
    nowhere = settings_for(f"nats://127.0.0.1:{free_ports(1)[0]}", codec.domain)
    with pytest.raises(ConnectFailed), SyncEventStore(nowhere, codec):
        pass
    with SyncEventStore(settings, codec) as store, pytest.raises(StreamMissing):
        store.log_end()


INTERRUPTED = """
import sys

from eventstore.config import Settings
from eventstore.sync import SyncEventStore
from tests.conftest import settings_for
from tests.integration.ledger import Opened, ledger

url, domain = sys.argv[1:]
settings, codec = settings_for(url, domain), ledger(domain)
with SyncEventStore(settings, codec, declare_log=True) as store:
    store.append("account", "a", Opened())
    try:
        for event in store.read_all(live=True):
            print(event.position, flush=True)
    except KeyboardInterrupt:
        print("interrupted", store.log_end(), flush=True)
        raise
"""


def test_ctrl_c_ends_a_waiting_program(nats_server: EmbeddedServer, domain_name: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(nats_server.url), domain_name],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n", process.communicate()[1]
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=45)
    assert output == "interrupted 1\n"
    assert errors.strip().endswith("KeyboardInterrupt"), errors
    assert errors.count("Traceback") == 1, errors
    assert process.returncode == -signal.SIGINT


FORKED = """
import os
import sys

from eventstore.errors import BlockingCallRefused
from eventstore.sync import SyncEventStore
from tests.conftest import settings_for
from tests.integration.ledger import Opened, ledger

url, domain = sys.argv[1:]
settings, codec = settings_for(url, domain), ledger(domain)
child = None
with SyncEventStore(settings, codec, declare_log=True) as store:
    store.append("account", "a", Opened())
    live = store.read_all(live=True)
    next(live)
    child = os.fork()
    if child == 0:
        for call in (store.log_end, store.read_all, live.__next__):
            try:
                call()
            except BlockingCallRefused as error:
                assert "forked" in str(error), error
        with SyncEventStore(settings, codec) as own:
            assert own.log_end() == 1
        sys.exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    store.append("account", "a", Opened())
    assert next(live).version == 2
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_it_is_refused_in_a_forked_process(nats_server: EmbeddedServer, domain_name: str) -> None:
    """Such as in the workers of a web server that loads the program before it forks them."""
    program = [sys.executable, "-c", FORKED, str(nats_server.url), domain_name]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=45)
    assert done.returncode == 0, done.stderr
