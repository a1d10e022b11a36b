"""`eventstore audit verify` and `audit anchor`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import nkeys  # type: ignore[import-untyped]
import pytest

from eventstore.client.client import Client, connect
from eventstore.config import load_settings
from eventstore.jetstream.topology import declare, topology
from eventstore.nix import FlakeCreated, FlakeInputAdded, ModuleCreated, domain
from eventstore.server.embedded import EmbeddedServer
from eventstore.store.store import EventStore
from tests.integration.command_line import CommandLine
from tests.integration.tampering import Tamper, changed, ordered, rechained, replace_log, stored

CREATED = FlakeCreated(path="./x", description="x")
SEED = nkeys.encode_seed(bytes(32), nkeys.PREFIX_BYTE_USER).decode()
KEY = nkeys.from_seed(bytearray(SEED.encode())).public_key.decode()

Work = Callable[[Client, EventStore], Awaitable[object]]


class Log:
    """A log of its own on the shared server: flake a (1, 3), module m (2), flake b (4, 5)."""

    def __init__(self, folder: Path, url: str, name: str) -> None:
        (folder / "own.toml").write_text(f'[nats]\nsubject_prefix = "{name}"\nurl = "{url}"\n')
        self.name = name
        self.folder = folder
        self.cli = CommandLine(folder, EVENTSTORE_CONFIG="own.toml")
        self._settings = load_settings(folder / "own.toml", environ={})
        self._codec = domain(name).codec
        self.work(self._fill)

    async def _fill(self, client: Client, store: EventStore) -> None:
        await declare(client, topology(self._codec.subjects, self._settings.streams)[:1])
        for aggregate, aggregate_id, events in (
            ("flake", "a", [CREATED]),
            ("module", "m", [ModuleCreated(name="m", content="c")]),
            ("flake", "a", [FlakeInputAdded(name="n", url="u")]),
            ("flake", "b", [CREATED, FlakeInputAdded(name="n", url="u")]),
        ):
            await store.append(aggregate, aggregate_id, events)

    def work(self, work: Work) -> None:
        async def run() -> None:
            async with (
                connect(self._settings) as client,
                EventStore(client, self._codec) as store,
            ):
                await work(client, store)

        asyncio.run(run())

    def tamper(self, tamper: Tamper) -> None:
        async def work(client: Client, _: EventStore) -> None:
            await replace_log(client, self._codec, tamper(await stored(client, self._codec)))

        self.work(work)

    def anchor(self, name: str = "anchor.json", *words: object) -> Path:
        ended = self.cli.call("audit", "anchor", *words)
        assert ended.status == 0, ended.err
        (self.folder / name).write_text(ended.out)
        return self.folder / name


@pytest.fixture
def log(tmp_path: Path, nats_server: EmbeddedServer, domain_name: str) -> Log:
    return Log(tmp_path, nats_server.url, domain_name)


def test_a_good_log_is_one_line_and_status_0(log: Log) -> None:
    whole = log.cli.call("audit", "verify")
    kind = log.cli.call("audit", "verify", "flake")
    one = log.cli.call("audit", "verify", "flake", "a")

    assert (whole.status, kind.status, one.status) == (0, 0, 0)
    assert whole.out.startswith("5 events of 3 aggregates verified in ")
    assert whole.out.endswith(" s: nothing was changed, nothing is missing\n")
    assert kind.out.startswith("4 events of 2 aggregates verified in ")
    assert one.out.startswith("2 events of 1 aggregate verified in ")
    assert "verifying" in whole.err, "progress is for people"


def test_findings_are_printed_with_status_1(log: Log) -> None:
    log.tamper(lambda messages: ordered(0, 1, 2, 4)(changed(2, b'{"name":"evil"}')(messages)))
    ended = log.cli.call("audit", "verify")
    first, why, second, _, last = ended.lines

    assert ended.status == 1
    assert first.startswith(f"position 3: changed: {log.name}.log.flake.a v2 ")
    assert "follows the chain value" in why
    assert second.startswith(f"position 4: missing: {log.name}.log.flake.b v2 ")
    assert last.startswith("4 events of 3 aggregates verified in ")
    assert last.endswith(": found 1 changed, 1 missing")
    assert log.cli.call("audit", "verify", "module").status == 0


def test_json_is_a_finding_a_line_and_then_the_summary(log: Log) -> None:
    log.tamper(changed(0, b"{}"))
    ended = log.cli.call("audit", "verify", "--json")
    finding, summary = map(json.loads, ended.lines)

    assert ended.status == 1
    assert (finding["kind"], finding["position"], finding["version"]) == ("changed", 1, 1)
    assert (finding["subject"], finding["first"]) == (f"{log.name}.log.flake.a", True)
    del summary["summary"]["seconds"]
    assert summary == {
        "summary": {
            "events": 5,
            "aggregates": 3,
            "messages": 5,
            "first": 1,
            "last": 5,
            "proven": 4,
            "changed": 1,
            "foreign": 0,
            "unreadable": 0,
            "missing_positions": 0,
            "missing": [],
            "findings": 1,
            "broken_aggregates": 1,
            "kinds": {"changed": 1},
        }
    }


def test_unreadable_events_are_findings_with_read(log: Log) -> None:
    assert log.cli.call("audit", "verify", "--read").out.endswith(
        " s: nothing was changed, nothing is missing, everything can be read\n"
    )
    log.tamper(lambda messages: rechained(changed(1, b'{"name":7}')(messages)))
    ended = log.cli.call("audit", "verify", "--read")
    one = log.cli.call("audit", "verify", "module", "m", "--read", "--json")

    assert (log.cli.call("audit", "verify").status, ended.status, one.status) == (0, 1, 1)
    assert ended.lines[0].startswith(f"position 2: unreadable: {log.name}.log.module.m v1 ")
    assert ended.lines[1] == "  payload of ModuleCreated: Expected `str`, got `int` - at `$.name`"
    assert ended.lines[2].endswith(": found 1 unreadable")
    finding, summary = map(json.loads, one.lines)
    assert (finding["kind"], finding["position"]) == ("unreadable", 2)
    assert summary["summary"]["kinds"] == {"unreadable": 1}


def test_no_more_than_the_limit_is_printed_and_all_are_counted(log: Log) -> None:
    log.tamper(lambda messages: changed(0, b"{}")(changed(1, b"{}")(messages)))
    ended = log.cli.call("audit", "verify", "--limit", "1")

    assert (ended.status, len(ended.lines)) == (1, 4)
    assert ended.lines[2] == "and 1 more; --limit prints more of them"
    assert ended.lines[3].endswith(": found 2 changed")


def test_an_outsider_sees_that_nothing_older_changed(log: Log) -> None:
    anchor = log.anchor()
    log.work(lambda _, store: store.append("flake", "c", CREATED))
    ended = log.cli.call("audit", "verify", "--anchor", anchor)

    assert ended.status == 0
    time = json.loads(anchor.read_text())["time"]
    assert ended.lines[1] == f"the first 5 are those of the anchor of {time}"


def test_an_outsider_sees_that_the_last_event_is_gone(log: Log) -> None:
    anchor = log.anchor()
    log.tamper(ordered(0, 1, 2, 3))

    assert log.cli.call("audit", "verify").status == 0
    ended = log.cli.call("audit", "verify", "--anchor", anchor)
    assert ended.status == 1
    assert ended.lines[0] == "position 4: anchor"
    assert "is of 5 events, and the log has only 4" in ended.lines[1]


def test_a_signed_anchor_is_checked_with_a_known_key(log: Log) -> None:
    (log.folder / "seed").write_text(f"{SEED}\n")
    anchor = log.anchor("signed.json", "--sign", "seed")
    alone = log.cli.call("audit", "verify", "--anchor", anchor)
    known = log.cli.call("audit", "verify", "--anchor", anchor, "--key", KEY)
    other = log.cli.call("audit", "verify", "--anchor", anchor, "--key", "U" + KEY[1:-1] + "A")

    assert (alone.status, known.status, other.status) == (0, 0, 2)
    assert alone.lines[0] == (
        f"the anchor is signed by {KEY}: only --key checks that it is the expected key"
    )
    assert len(known.lines) == 2
    assert other.err.startswith(f"error: the anchor cannot be used: it is signed by {KEY}, and ")


def test_a_log_with_findings_gets_no_anchor(log: Log) -> None:
    log.tamper(changed(0, b"{}"))
    ended = log.cli.call("audit", "anchor")

    assert (ended.status, ended.out) == (1, "")
    assert "position 1: changed" in ended.err


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("cake",), "error: unknown aggregate 'cake'"),
        (("flake", "a.b"), "error: aggregate id 'a.b' is not allowed"),
        (("flake", "unheard-of"), "Error: Invalid value for ID: flake unheard-of has no events"),
        (("--key", KEY), "Error: Invalid value for --key: a key verifies an anchor: give"),
        (("--anchor", "none"), "error: none cannot be read: No such file or directory"),
        (("--anchor", "own.toml"), "error: the anchor cannot be used: it is not an anchor"),
        (("flake", "--anchor", "x"), "Error: Invalid value for --anchor: an anchor is of"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)
def test_misuse_is_one_clear_line_with_status_2(
    log: Log, words: tuple[str, ...], problem: str
) -> None:
    ended = log.cli.call("audit", "verify", *words)
    assert (ended.status, ended.out) == (2, "")
    assert problem in ended.err


def test_an_invalid_seed_is_refused(log: Log) -> None:
    ended = log.cli.call("audit", "anchor", "--sign", "own.toml")
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.splitlines()[-1].startswith("error: there is no nkey seed to sign with")
