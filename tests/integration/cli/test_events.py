"""`eventstore events`: stored events as lines, headers included."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventstore.client.client import Client, connect
from eventstore.config import load_settings
from eventstore.jetstream.topology import declare, topology
from eventstore.messages.chain import chain_value
from eventstore.messages.envelope import new_id
from eventstore.messages.headers import Header
from eventstore.messages.types import Event
from eventstore.nix import FlakeCreated, FlakeInputAdded, ModuleCreated, ModuleDeleted, domain
from eventstore.server.embedded import EmbeddedServer
from eventstore.store.store import EventStore
from tests.integration.command_line import BOUND, CommandLine

STANDARD = {
    Header.EVENT_ID,
    Header.EVENT_TYPE,
    Header.CORRELATION_ID,
    Header.CAUSATION_ID,
    Header.AGGREGATE_ID,
    Header.TIMESTAMP,
    Header.DOMAIN,
    Header.MESSAGE_ID,
    Header.AGGREGATE_VERSION,
    Header.SCHEMA_VERSION,
    Header.CHAIN,
    Header.CONTENT_TYPE,
}
CREATED = FlakeCreated(path="./x", description="x")
ADDED = FlakeInputAdded(name="n", url="u")

Work = Callable[[Client, EventStore], Awaitable[object]]


class Log:
    """A log of its own on the shared server, and a folder whose configuration names it."""

    def __init__(self, folder: Path, url: str, name: str) -> None:
        (folder / "own.toml").write_text(f'[nats]\nsubject_prefix = "{name}"\nurl = "{url}"\n')
        self.name = name
        self.cli = CommandLine(folder, EVENTSTORE_CONFIG="own.toml")
        self._settings = load_settings(folder / "own.toml", environ={})
        self.codec = domain(name).codec

    def work(self, work: Work) -> None:
        async def run() -> None:
            async with connect(self._settings) as client:
                await declare(client, topology(self.codec.subjects, self._settings.streams))
                async with EventStore(client, self.codec) as store:
                    await work(client, store)

        asyncio.run(run())

    def append(self, *appends: tuple[str, str, Event]) -> None:
        async def work(_: Client, store: EventStore) -> None:
            for append in appends:
                await store.append(*append)

        self.work(work)


@pytest.fixture
def log(tmp_path: Path, nats_server: EmbeddedServer, domain_name: str) -> Log:
    return Log(tmp_path, nats_server.url, domain_name)


@pytest.fixture
def filled(log: Log) -> Log:
    """Positions 1 to 5: flake a, module m, flake b, flake a, module m."""
    log.append(
        ("flake", "a", CREATED),
        ("module", "m", ModuleCreated(name="m", content="c")),
        ("flake", "b", CREATED),
        ("flake", "a", ADDED),
        ("module", "m", ModuleDeleted()),
    )
    return log


def positions(lines: Iterable[str]) -> list[int]:
    return [json.loads(line)["position"] for line in lines]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), [1, 2, 3, 4, 5]),
        (("flake",), [1, 3, 4]),
        (("module", "m"), [2, 5]),
        (("flake", "unheard-of"), []),
        (("overlay",), []),
        (("--after", "3"), [4, 5]),
        (("--after", "5"), []),
        (("flake", "--after", "1"), [3, 4]),
        (("flake", "a", "--after", "1"), [4]),
        (("--limit", "2"), [1, 2]),
        (("flake", "--limit", "2"), [1, 3]),
        (("flake", "a", "--limit", "1"), [1]),
        (("--after", "1", "--limit", "9"), [2, 3, 4, 5]),
    ],
    ids=lambda value: " ".join(value) if value and isinstance(value[0], str) else "",
)
def test_they_are_printed_in_the_order_of_the_log(
    filled: Log, words: tuple[str, ...], expected: list[int]
) -> None:
    ended = filled.cli.call("events", *words, "--json")
    plain = filled.cli.call("events", *words)

    assert (ended.status, ended.err, plain.status, plain.err) == (0, "", 0, "")
    assert positions(ended.lines) == expected
    assert [int(line.split()[0]) for line in plain.lines] == expected


def test_json_has_everything_that_is_stored(filled: Log) -> None:
    (line,) = filled.cli.call("events", "flake", "a", "--json", "--limit", "1").lines
    found = json.loads(line)
    headers = found.pop("headers")

    assert found == {
        "position": 1,
        "aggregate": "flake",
        "aggregate_id": "a",
        "version": 1,
        "type": "FlakeCreated",
        "data": {"path": "./x", "description": "x", "template": None},
    }
    assert headers.keys() >= STANDARD
    assert headers[Header.EVENT_ID] == headers[Header.MESSAGE_ID]
    assert headers[Header.EVENT_TYPE] == "FlakeCreated"
    assert headers[Header.AGGREGATE_ID] == "a"
    assert headers[Header.AGGREGATE_VERSION] == "1"
    assert headers[Header.DOMAIN] == filled.name
    assert datetime.fromisoformat(headers[Header.TIMESTAMP]).tzinfo is not None


def test_a_line_shows_the_event_and_its_aggregate(filled: Log) -> None:
    line = filled.cli.call("events", "flake", "a").lines[1]
    assert line.startswith("     4  20")
    assert line.endswith('  FlakeInputAdded flake a v2  {"name":"n","url":"u"}')


def _example(cls: type[Event]) -> Event:
    """An event of the type, made from the types of its fields."""
    for text in ("text", "switch"):
        fields = {
            field.name: value
            for field in msgspec.structs.fields(cls)
            for value in (text, 1, ["text"])
            if _fits(value, field.type)
        }
        if len(fields) == len(msgspec.structs.fields(cls)):
            return msgspec.convert(fields, cls)
    raise AssertionError(f"no example for {cls}")


def _fits(value: object, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def test_every_type_of_event_can_be_printed(log: Log) -> None:
    types = log.codec.event_types
    log.append(*((cls.__aggregate__, "x", _example(cls)) for cls in types))
    plain, as_json = log.cli.call("events"), log.cli.call("events", "--json")

    assert (plain.status, plain.err, as_json.status, as_json.err) == (0, "", 0, "")
    assert [line.split()[3] for line in plain.lines] == [cls.__name__ for cls in types]
    found = [json.loads(line) for line in as_json.lines]
    assert [event["type"] for event in found] == [cls.__name__ for cls in types]
    assert [event["data"] for event in found] == [
        msgspec.to_builtins(_example(cls)) for cls in types
    ]


def test_an_empty_log_prints_nothing(log: Log) -> None:
    log.append()
    assert log.cli.call("events") == (0, "", "")
    assert log.cli.call("events", "--json") == (0, "", "")
    assert log.cli.call("events", "flake") == (0, "", "")
    assert log.cli.call("events", "flake", "a") == (0, "", "")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("cake",), "unknown aggregate 'cake'; known are config, flake,"),
        (("flake", "a.b"), "aggregate id 'a.b' is not allowed"),
        (("--after", "6"), "position 6 is beyond the end of the log"),
    ],
)
def test_an_invalid_aggregate_is_one_clear_line(
    filled: Log, words: tuple[str, ...], problem: str
) -> None:
    ended = filled.cli.call("events", *words)

    assert (ended.status, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert ended.err.startswith(f"error: {problem}")


@pytest.mark.parametrize("words", [(), ("flake", "a")])
def test_without_a_log_it_says_so(log: Log, words: tuple[str, ...]) -> None:
    ended = log.cli.call("events", *words)

    assert (ended.status, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert " serve`" in ended.err


def test_a_stored_payload_in_several_lines_is_printed_in_one(log: Log) -> None:
    log.append(("flake", "a", CREATED))
    (line,) = log.cli.call("events", "--json").lines
    headers = json.loads(line)["headers"] | {
        Header.AGGREGATE_VERSION: "2",
        Header.EVENT_ID: (other := "00000000-0000-4000-8000-000000000000"),
        Header.MESSAGE_ID: other,
        Header.EVENT_TYPE: "FlakeInputAdded",
        "Nats-Expected-Last-Subject-Sequence": "1",
    }

    async def work(client: Client, _: EventStore) -> None:
        payload, subject = b'{\n  "name": "n",\n  "url": "u"\n}', f"{log.name}.log.flake.a"
        chain = chain_value(headers[Header.CHAIN], subject, headers, payload)
        await client.request(subject, payload, headers=headers | {Header.CHAIN: chain})

    log.work(work)
    _, second = log.cli.call("events", "--json").lines
    assert json.loads(second)["data"] == {"name": "n", "url": "u"}
    assert log.cli.call("events").lines[1].endswith(r'{\n  "name": "n",\n  "url": "u"\n}')


def test_a_closed_pipe_ends_it(log: Log) -> None:
    log.append(*(("flake", f"f{n}", CREATED) for n in range(200)))
    with log.cli.start("events", "--json", "--follow") as running:
        assert running.process.stdout is not None
        assert positions([running.line()]) == [1]
        running.process.stdout.close()
        log.append(*(("flake", f"g{n}", CREATED) for n in range(200)))
        assert running.process.wait(BOUND) == 0
        assert running.process.stderr is not None
        assert running.process.stderr.read() == ""


@pytest.mark.parametrize("words", [(), ("flake", "a")])
def test_with_follow_it_continues_until_ctrl_c(filled: Log, words: tuple[str, ...]) -> None:
    with filled.cli.start("events", *words, "--follow", "--after", "3", "--json") as running:
        assert positions([running.line()]) == [4]
        if not words:
            assert positions([running.line()]) == [5]
        filled.append(("flake", "b", ADDED), ("flake", "a", FlakeInputAdded(name="o", url="u")))
        if not words:
            assert positions([running.line()]) == [6]
        assert positions([running.line()]) == [7]
        ended = running.stopped(signal.SIGINT)

    assert ended == (130, "", "")


def test_with_follow_and_a_limit_it_ends_by_itself(filled: Log) -> None:
    with filled.cli.start("events", "--follow", "--after", "5", "--limit", "1") as running:
        filled.append(("flake", "b", ADDED))
        ended = running.ended()

    assert (ended.status, ended.err, len(ended.lines)) == (0, "", 1)


def test_foreign_messages_are_listed_separately(filled: Log) -> None:
    async def work(client: Client, store: EventStore) -> None:
        await client.request(f"{filled.name}.log.flake.a", b'{"x":\n1}', headers={"X-Own": "\x1b"})
        await client.request(f"{filled.name}.log.teapot.x", b"\xff\x1b[2J")
        head = await store.head("flake", "b")
        (event,) = [event async for event in store.read("flake", "b")]
        own = {Header.EVENT_ID: (odd := new_id()), Header.AGGREGATE_VERSION: "2"}
        headers = dict(event.headers) | own | {Header.MESSAGE_ID: odd}
        headers["Nats-Expected-Last-Subject-Sequence"] = str(head.position)
        subject = f"{filled.name}.log.flake.b"
        headers[Header.CHAIN] = chain_value(head.chain, subject, headers, b"[1")
        await client.request(subject, b"[1", headers=headers)

    filled.work(work)

    listed = filled.cli.call("events", "--foreign")
    assert (listed.status, len(listed.lines)) == (0, 2)
    assert listed.lines[0].split()[:2] == ["6", f"{filled.name}.log.flake.a:"]
    assert "it has no envelope" in listed.lines[0]
    assert "\x1b" not in listed.out
    found = [json.loads(line) for line in filled.cli.call("events", "--foreign", "--json").lines]
    assert [each["position"] for each in found] == [6, 7]
    assert found[0]["data"] == {"x": 1}
    assert found[1]["data"] == "\\xff\x1b[2J"
    assert set(found[0]) == {"position", "subject", "reason", "headers", "data"}
    one = filled.cli.call("events", "teapot", "--foreign", "--json")
    assert positions(one.lines) == [7]
    assert positions(filled.cli.call("events", "--foreign", "--after", "6", "--json").lines) == [7]

    everything = filled.cli.call("events", "--json")
    assert positions(everything.lines) == [1, 2, 3, 4, 5, 8]
    unreadable = json.loads(everything.lines[-1])
    assert unreadable["data"] == "[1"
    assert unreadable["unreadable"].startswith("payload of FlakeCreated: ")
    of_b = filled.cli.call("events", "flake", "b")
    assert "(unreadable: payload of FlakeCreated: " in of_b.lines[-1]
    assert filled.cli.call("events", "--foreign", "--follow").status == 2
