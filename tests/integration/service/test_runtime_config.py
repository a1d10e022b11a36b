"""The runtime configuration: validated, stored, and applied to running services."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from typing import Any

import pytest

from eventstore.application import running
from eventstore.client.client import Client, connect
from eventstore.commands import CommandClient
from eventstore.config import Settings
from eventstore.errors import (
    ConfigurationError,
    ConnectionLost,
    NoResponders,
    QueueFull,
    StreamMissing,
)
from eventstore.messages.subjects import Subjects
from eventstore.service.config_watcher import ConfigWatcher
from eventstore.service.runtime_config import RuntimeConfig, Value, parse_value
from tests.conftest import settings_for
from tests.integration.commanding import Add, Line, counting, opened, until
from tests.proxy import TcpProxy


@pytest.fixture
async def line(client: Client, domain_name: str) -> AsyncIterator[Line]:
    async with opened(client, counting(domain_name)) as line:
        yield line


@pytest.fixture
def configuration(line: Line) -> RuntimeConfig:
    return RuntimeConfig(line.client, line.subjects)


@pytest.fixture(autouse=True)
def level() -> Iterator[logging.Logger]:
    logger = logging.getLogger("eventstore")
    before = logger.level
    yield logger
    assert logger.level == before


class PauseRecorder:
    """Remembers what was to be paused."""

    def __init__(self) -> None:
        self.names: list[list[str]] = []
        self.changed = asyncio.Event()

    def pause(self, names: Collection[str]) -> list[str]:
        self.names.append(sorted(names))
        self.changed.set()
        return [name for name in names if name.startswith("no")]

    async def next(self) -> list[str]:
        async with asyncio.timeout(20):
            await self.changed.wait()
        self.changed.clear()
        return self.names[-1]


def control(line: Line, client: Client | None = None, **options: Any) -> ConfigWatcher:
    options = {"queue_limit": 1_000_000, **options}
    return ConfigWatcher(client or line.client, line.subjects, **options)


async def queue_limit(line: Line) -> int:
    info = await line.client.api(f"STREAM.INFO.{line.subjects.command_stream}")
    limit: int = info["config"]["max_msgs"]
    return limit


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("log_level", "debug", "debug"),
        ("log_level", '"error"', "error"),
        ("projections.paused", "flakes", ["flakes"]),
        ("projections.paused", "flakes, packages", ["flakes", "packages"]),
        ("projections.paused", '["flakes"]', ["flakes"]),
        ("projections.paused", "[]", []),
        ("commands.queue_limit", "500", 500),
    ],
)
async def test_a_value_that_is_set_is_read(
    configuration: RuntimeConfig, key: str, text: str, value: Value
) -> None:
    assert await configuration.set(key, text) == value
    assert await configuration.get(key) == value


@pytest.mark.parametrize(
    ("key", "text", "named"),
    [
        ("log_level", "loud", "one of debug, info, warning and error"),
        ("log_level", "DEBUG", "'DEBUG'"),
        ("log_level", "", "log_level"),
        ("projections.paused", "a b", "names of projections"),
        ("projections.paused", "", "names of projections"),
        ("projections.paused", '{"a": 1}', "names of projections"),
        ("commands.queue_limit", "0", "from 1"),
        ("commands.queue_limit", "many", "whole number"),
        ("commands.queue_limit", "true", "whole number"),
        ("commands.queue_limit", "1.5", "whole number"),
        ("log-level", "debug", "did you mean log_level"),
        ("feed.position", "1", "known are log_level"),
        ("\ud800", "1", "not known"),
        ("log_level", "\ud800", "log_level"),
    ],
)
def test_illegal_keys_and_values_are_refused_and_named(key: str, text: str, named: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        parse_value(key, text)
    assert named in str(refused.value)


async def test_all_keys_are_there_whether_set_or_not(configuration: RuntimeConfig) -> None:
    await configuration.set("log_level", "info")
    await configuration.set("projections.paused", "a")
    await configuration.unset("projections.paused")
    await configuration.unset("commands.queue_limit")
    assert await configuration.get_all() == {
        "log_level": "info",
        "projections.paused": None,
        "commands.queue_limit": None,
    }


async def test_values_set_by_other_tools_are_read(line: Line, configuration: RuntimeConfig) -> None:
    bucket = await line.jetstream.key_value(line.subjects.config_bucket)
    await bucket.put("log_level", b"error")
    assert await configuration.get("log_level") == "error"
    await bucket.delete("log_level")
    assert await configuration.get("log_level") is None
    await bucket.put("log_level", b"\xff")
    with pytest.raises(ConfigurationError, match="log_level"):
        await configuration.get("log_level")


async def test_a_missing_bucket_is_reported(client: Client, domain_name: str) -> None:
    configuration = RuntimeConfig(client, Subjects(domain_name))
    with pytest.raises(StreamMissing):
        await configuration.get("log_level")
    with pytest.raises(NoResponders, match="declare the topology"):
        await configuration.set("log_level", "info")
    with pytest.raises(StreamMissing):
        await ConfigWatcher(client, Subjects(domain_name), queue_limit=1).run()


async def test_existing_values_apply_from_the_start(
    line: Line, configuration: RuntimeConfig, level: logging.Logger
) -> None:
    await configuration.set("log_level", "error")
    await configuration.set("commands.queue_limit", "7")
    await configuration.set("projections.paused", "b,a")
    paused = PauseRecorder()
    async with running(part := control(line, pausable=paused)):
        await part.ready.wait()
        assert level.level == logging.ERROR
        assert await queue_limit(line) == 7
        assert paused.names == [["a", "b"]]


async def test_changes_and_deletions_take_effect_immediately(
    line: Line, configuration: RuntimeConfig, level: logging.Logger
) -> None:
    paused = PauseRecorder()
    part = control(line, pausable=paused, queue_limit=50)
    async with running(part):
        await part.ready.wait()
        assert await paused.next() == []
        assert await queue_limit(line) == 50
        before = level.level
        await configuration.set("log_level", "debug")
        await configuration.set("commands.queue_limit", "1")
        await configuration.set("projections.paused", "flakes")
        assert await paused.next() == ["flakes"]

        async def applied() -> bool:
            return level.level == logging.DEBUG and await queue_limit(line) == 1

        await until(applied)
        await line.commands.send(Add(), "c1")
        with pytest.raises(QueueFull):
            await line.commands.send(Add(), "c1")

        for key in ("log_level", "commands.queue_limit", "projections.paused"):
            await configuration.unset(key)
        assert await paused.next() == []

        async def taken_back() -> bool:
            return level.level == before and await queue_limit(line) == 50

        await until(taken_back)
    assert paused.names == [[], ["flakes"], []]


async def test_an_illegal_value_changes_nothing_and_the_others_are_taken_up(
    line: Line, configuration: RuntimeConfig, caplog: pytest.LogCaptureFixture
) -> None:
    paused = PauseRecorder()
    part = control(line, pausable=paused)
    async with running(part):
        await part.ready.wait()
        await paused.next()
        bucket = await line.jetstream.key_value(line.subjects.config_bucket)
        await bucket.put("log_level", b"loud")
        await configuration.set("projections.paused", "a")
        assert await paused.next() == ["a"]
    assert any("'loud'" in record.message for record in caplog.records)


async def test_an_illegal_value_is_logged_once_and_truncated(
    line: Line, configuration: RuntimeConfig, caplog: pytest.LogCaptureFixture
) -> None:
    paused = PauseRecorder()
    bucket = await line.jetstream.key_value(line.subjects.config_bucket)
    await bucket.put("log_level", b"\x1b[31m" + b"x" * 900_000)

    def log_lines() -> list[str]:
        return [each for each in caplog.messages if "log_level cannot be" in each]

    async with running(part := control(line, pausable=paused)):
        await part.ready.wait()
        await paused.next()
        for name in ("a", "b", "c"):  # each time all keys are looked at
            await configuration.set("projections.paused", name)
            assert await paused.next() == [name]
        assert len(log_lines()) == 1
        assert "x1b[31mxxx" in log_lines()[0]
        assert len(log_lines()[0]) < 400
        await bucket.put("log_level", b"loud")
        await configuration.set("projections.paused", "d")
        await paused.next()
        assert len(log_lines()) == 2


async def test_a_change_while_disconnected_applies_after_the_reconnect(
    line: Line, configuration: RuntimeConfig
) -> None:
    paused = PauseRecorder()
    async with TcpProxy(line.client) as proxy, connect(settings_for(proxy.url)) as far:
        part = control(line, far, pausable=paused)
        async with running(part):
            await part.ready.wait()
            await paused.next()
            with proxy.refusing():
                proxy.cut()
                await configuration.set("projections.paused", "a")
            assert await paused.next() == ["a"]


async def test_a_missed_change_applies_after_the_interval(
    line: Line, configuration: RuntimeConfig
) -> None:
    paused = PauseRecorder()
    part = control(line, pausable=paused, interval=0.05)
    part._on_change = lambda *_: None  # type: ignore[method-assign]
    async with running(part):
        await part.ready.wait()
        await paused.next()
        await configuration.set("projections.paused", "a")
        assert await paused.next() == ["a"]


async def test_it_ends_with_its_connection(line: Line, settings: Settings) -> None:
    async with connect(settings) as own:
        part = control(line, own, interval=0.02)
        task = asyncio.create_task(part.run())
        await part.ready.wait()
    with pytest.raises(ConnectionLost):
        await asyncio.wait_for(task, 20)


async def test_two_services_with_different_defaults_do_not_overrule_each_other(
    line: Line, configuration: RuntimeConfig
) -> None:
    first, second = control(line, queue_limit=10), control(line, queue_limit=20, interval=0.01)
    async with running(first):
        await first.ready.wait()
        async with running(second):
            await second.ready.wait()
            assert await queue_limit(line) == 20
            await configuration.set("commands.queue_limit", "30")

            async def both() -> bool:
                return await queue_limit(line) == 30

            await until(both)


async def test_the_limit_is_that_of_the_server_for_any_client(
    line: Line, configuration: RuntimeConfig, client: Client
) -> None:
    await configuration.set("commands.queue_limit", "1")
    async with running(part := control(line)), CommandClient(client, line.domain.codec) as other:
        await part.ready.wait()
        await other.send(Add(), "c1")
        answer = await client.request(line.subjects.command("counter", "add"), b"{}")
        assert b"10077" in answer.data


async def test_no_concurrent_change_is_lost(configuration: RuntimeConfig) -> None:
    def adding(name: str) -> Callable[[Value | None], Value | None]:
        return lambda value: [*(value if isinstance(value, list) else ()), name]

    names = [f"p{number}" for number in range(6)]
    changes = [configuration.change("projections.paused", adding(name)) for name in names]
    await asyncio.gather(*changes)
    assert sorted(await _list(configuration)) == names

    assert await configuration.change("projections.paused", lambda _: None) is None
    assert await configuration.get("projections.paused") is None
    assert await configuration.change("projections.paused", adding("again")) == ["again"]


async def _list(configuration: RuntimeConfig) -> list[str]:
    found = await configuration.get("projections.paused")
    assert isinstance(found, list)
    return found


async def test_an_illegal_change_is_refused(configuration: RuntimeConfig) -> None:
    with pytest.raises(ConfigurationError, match="cannot be"):
        await configuration.change("projections.paused", lambda _: ["no name"])
    assert await configuration.get("projections.paused") is None


async def test_names_that_a_service_does_not_know_are_logged(
    line: Line, configuration: RuntimeConfig, caplog: pytest.LogCaptureFixture
) -> None:
    await configuration.set("projections.paused", "flakes,nope")
    async with running(part := control(line, pausable=PauseRecorder())):
        async with asyncio.timeout(20):
            await part.ready.wait()
    (record,) = caplog.records
    assert record.message == (
        "configuration: projections.paused names nope, which this service does not have: "
        "not applied"
    )
