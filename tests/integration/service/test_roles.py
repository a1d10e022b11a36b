"""The shipped configuration: each role does what it may, by the command line, and nothing else.

One server and one service for all of it, encrypted as they are to be.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import msgspec
import pytest
from nats.aio.msg import Msg

from eventstore import (
    Client,
    CommandClient,
    Event,
    EventStore,
    EventSubscriber,
    RecordedEvent,
    nix,
)
from eventstore.application import running
from eventstore.config import ConsoleSettings, load_settings
from eventstore.console import Console
from eventstore.errors import JetStreamError, PermissionDenied
from eventstore.jetstream.direct_get import DirectReader
from eventstore.jetstream.publish import publish_acked
from eventstore.parking.messages import ParkedMessages
from eventstore.parking.record import ParkedRecord, store_record
from eventstore.timers import Timers
from projections import app as nix_application
from tests.attack.attacks import ROLES, attacks
from tests.attack.running import Result, attacked_service, run_attacks, until_led
from tests.integration.command_line import CommandLine, ProcessResult
from tests.integration.commanding import until
from tests.shipped import ShippedServers, open_accounts

BOUND = 45.0
FLAKE = '{"path": "./x", "description": ""}'


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShippedServers]:
    with attacked_service(tmp_path_factory.mktemp("shipped")) as shipped:
        yield shipped


@pytest.fixture
async def subscriber(shipped: ShippedServers) -> AsyncIterator[Client]:
    async with shipped.client("subscriber") as client:
        yield client


@pytest.mark.parametrize("role", ROLES)
async def test_no_attack_gets_through(shipped: ShippedServers, role: str) -> None:
    results = [result async for result in run_attacks(shipped, role, together=True)]

    assert {result.attack.harm for result in results} == {each.harm for each in attacks()}
    assert {result.attack.aim: result.harm for result in results if result.harm} == {}


def test_an_attack_that_gets_through_is_noticed(tmp_path: Path) -> None:
    aims = {
        "write keys, snapshots, outcomes and configuration",
        "read keys of personal data",
        "have whole streams sent, also to elsewhere",
        "restore a stream",
        "hear others' inboxes",
        "forge answers to others, and announce a service",
        "set a timer for a command of others",
    }

    async def tried(shipped: ShippedServers, *, together: bool) -> list[Result]:
        attacking = run_attacks(shipped, "reader", aims, together=together)
        return [result async for result in attacking]

    with attacked_service(tmp_path, accounts=open_accounts()) as shipped:
        results = asyncio.run(tried(shipped, together=False))
        assert all(result.harm for result in asyncio.run(tried(shipped, together=True)))

    assert {result.attack.aim for result in results if result.harm} == aims


def test_three_servers_are_as_good(tmp_path: Path) -> None:
    async def tried(shipped: ShippedServers) -> list[Result]:
        return [result async for result in run_attacks(shipped, "reader", together=True)]

    with attacked_service(tmp_path, servers=3) as shipped:
        results = asyncio.run(tried(shipped))
        asyncio.run(until_led(shipped))
        verified = shipped.command_line("auditor").call("audit", "verify", "flake", "one")

    assert {result.attack.aim: result.harm for result in results if result.harm} == {}
    assert "1 event of 1 aggregate verified" in verified.out


@pytest.mark.parametrize("role", ["admin", "developer"])
def test_admins_and_developers_send_commands_and_learn_of_outcomes(
    shipped: ShippedServers, role: str
) -> None:
    cli = shipped.command_line(role)

    sent = cli.call("send", "nix.cmd.flake.create", "--id", role, "--data", FLAKE, "--json")
    assert sent.status == 0, sent
    command_id = json.loads(sent.out)["command_id"]
    status = cli.call("command", "status", command_id, "--json")
    assert (status.status, json.loads(status.out)["status"]) == (0, "success")
    position = json.loads(sent.out)["position"]
    found = cli.call("query", "flake", "get", role, "--wait", position, "--json")
    assert (found.status, json.loads(found.out)["path"]) == (0, "./x")


@pytest.mark.parametrize("role", ["admin", "developer", "subscriber"])
async def test_users_set_and_cancel_timers_of_their_own(shipped: ShippedServers, role: str) -> None:
    codec = nix.domain("nix").codec
    async with (
        shipped.client(role) as client,
        shipped.client("service") as service,
        CommandClient(client, codec) as commands,
    ):
        later = timedelta(days=1)
        create = nix.CreateFlake(path=f"./{role}-later", description="")
        await commands.schedule("mine", create, f"{role}-1", after=later)
        names = [timer.name async for timer in Timers(service, codec.subjects).read()]
        assert ("mine" if role == "admin" else f"{role}:mine") in names
        assert await commands.cancel("mine")
        assert not await commands.cancel("mine")

        sent = await commands.send(create, f"{role}-1", after=0.01)

        async def is_done() -> bool:
            return await commands.outcome(sent.command_id) is not None

        await until(is_done, BOUND)
        outcome = await commands.outcome(sent.command_id)
        assert outcome is not None
        assert outcome.status == "success"
        async with EventStore(service, codec) as store:
            (created,) = [event async for event in store.read("flake", f"{role}-1")]
    assert created.envelope.authenticated_as == f"NIX_{role.upper()}/{role}"


async def test_a_developer_sets_no_timer_for_a_command_of_admins(shipped: ShippedServers) -> None:
    async with (
        shipped.client("developer") as client,
        CommandClient(client, nix.domain("nix").codec) as commands,
    ):
        with pytest.raises(PermissionDenied, match=r"nix\.timer\.evil\.config\.rollback"):
            await commands.schedule("evil", nix.RollbackConfiguration(), "h", after=1)


def test_only_admins_activate_configurations(shipped: ShippedServers) -> None:
    created = ("send", "nix.cmd.config.create", "--id", "host")
    activated = ("send", "nix.cmd.config.activate", "--id", "host")
    activation = ("--data", '{"activation": "switch"}')
    data = ("--data", '{"name": "host", "modules": []}')

    assert shipped.command_line("developer").call(*created, *data).status == 0
    refused = shipped.command_line("developer").call(*activated, *activation)
    assert (refused.status, "forbids nix.cmd.config.activate" in refused.out) == (2, True)
    assert shipped.command_line("admin").call(*activated, *activation).status == 0


@pytest.mark.parametrize("role", ["admin", "developer", "reader", "subscriber"])
def test_all_but_auditors_query_and_look_at_the_service(shipped: ShippedServers, role: str) -> None:
    cli = shipped.command_line(role)

    assert '"id":"one"' in cli.call("query", "flake", "list", "--json").out
    assert cli.call("health").status == 0
    assert cli.call("health", "nix").status == 0
    assert "cim-domain-nix" in cli.call("discover", "--count", "1", "--json").out


@pytest.mark.parametrize("role", ["admin", "developer", "reader", "subscriber"])
async def test_all_but_auditors_receive_events(shipped: ShippedServers, role: str) -> None:
    heard: asyncio.Queue[Msg] = asyncio.Queue()
    async with shipped.client(role) as client, shipped.client("developer") as developer:
        await client.subscribe("nix.event.flake.*", heard.put)
        await client.flush()
        async with CommandClient(developer, nix.domain().codec) as commands:
            await commands.execute(nix.CreateFlake(path=".", description=""), f"for-{role}")
        message = await asyncio.wait_for(heard.get(), BOUND)
    assert (message.headers or {})["X-Aggregate-ID"] == f"for-{role}"


async def park_commands(shipped: ShippedServers, *aggregate_ids: str) -> None:
    """Have commands parked that nobody understands."""
    async with shipped.client("admin") as client:
        parked = ParkedMessages(client, nix.domain().codec.subjects)

        async def all_are_parked() -> bool:
            found = {each.record.aggregate_id async for each in parked.read()}  # type: ignore[union-attr]
            return found >= set(aggregate_ids)

        for aggregate_id in aggregate_ids:
            headers = {"X-Aggregate-ID": aggregate_id}
            await client.request("nix.cmd.flake.create", b"{", headers=headers)
        await until(all_are_parked)


@pytest.mark.parametrize("subject", ["nix.cmd.flake.update", "nix.query.flake.get"])
async def test_the_sender_is_authenticated_by_the_server(
    shipped: ShippedServers, subject: str
) -> None:
    heard: asyncio.Queue[Msg] = asyncio.Queue()
    forged = {
        "Nats-Request-Info": '{"acc": "NIX_ADMIN", "user": "admin"}',
        "X-Aggregate-ID": "none",
    }
    async with shipped.client("service") as service, shipped.client("developer") as developer:
        await service.subscribe(subject, heard.put)
        await service.flush()
        await developer.request(subject, b"{}", headers=forged)
        message = await asyncio.wait_for(heard.get(), BOUND)
    info = json.loads((message.headers or {})["Nats-Request-Info"])
    assert (info["acc"], info["user"]) == ("NIX_DEVELOPER", "developer")


def test_admins_retry_and_discard_parked_messages(shipped: ShippedServers) -> None:
    asyncio.run(park_commands(shipped, "p1", "p2"))
    cli = shipped.command_line("admin")

    listed = [json.loads(line) for line in cli.call("parked", "list", "--json").lines]
    sequences = {each["aggregate_id"]: each["parked"] for each in listed}
    shown = cli.call("parked", "show", sequences["p1"])
    assert (shown.status, "p1" in shown.out) == (0, True)
    assert cli.call("parked", "retry", sequences["p1"]).status == 0
    assert cli.call("parked", "discard", sequences["p2"], "--yes").status == 0
    left = [json.loads(line)["parked"] for line in cli.call("parked", "list", "--json").lines]
    assert sequences["p1"] not in left
    assert sequences["p2"] not in left


def test_admins_configure(shipped: ShippedServers) -> None:
    cli = shipped.command_line("admin")

    assert cli.call("config", "set", "log_level", "warning").status == 0
    assert cli.call("config", "get", "log_level").out == "log_level = warning\n"
    assert cli.call("config", "unset", "log_level").status == 0
    assert cli.call("config", "get", "log_level").out == "log_level = (not set)\n"
    assert cli.call("projection", "pause", "modules").status == 0
    assert cli.call("projection", "resume", "modules").status == 0


@pytest.mark.parametrize(
    ("payload", "headers"),
    [
        (b'"loud"', {}),
        (b"\xff", {}),
        (b"", {"KV-Operation": "PURGE"}),
        (b'"info"', {"Nats-Expected-Last-Subject-Sequence": "x"}),
    ],
)
async def test_admins_configure_nothing_that_is_not_configuration(
    shipped: ShippedServers, payload: bytes, headers: dict[str, str]
) -> None:
    async with shipped.client("admin") as client:
        with pytest.raises(JetStreamError) as refused:
            await publish_acked(client, "$KV.NIX_CONFIG.log_level", payload, headers)
    assert refused.value.status == 403


@pytest.mark.parametrize("role", ["developer", "reader", "subscriber"])
@pytest.mark.parametrize("words", [("parked", "list"), ("config", "get"), ("audit", "verify")])
def test_others_do_none_of_that(shipped: ShippedServers, role: str, words: tuple[str, ...]) -> None:
    ended = shipped.command_line(role).call(*words)

    assert (ended.status, "forbids" in ended.err) == (2, True)


def test_auditors_verify_and_explain(shipped: ShippedServers, tmp_path: Path) -> None:
    cli = shipped.command_line("auditor")

    assert "nothing was changed" in cli.call("audit", "verify").out
    assert cli.call("audit", "verify", "flake", "one").status == 0
    assert "FlakeCreated" in cli.call("audit", "history", "flake", "one").out
    anchor = cli.call("audit", "anchor")
    (tmp_path / "anchor.json").write_text(anchor.out)
    compared = cli.call("audit", "verify", "--anchor", tmp_path / "anchor.json")
    assert (compared.status, "are those of the anchor" in compared.out) == (0, True)


def test_auditors_find_what_was_done_and_by_which_user_according_to_the_server(
    shipped: ShippedServers,
) -> None:
    admin = shipped.command_line("admin")
    assert admin.call("config", "set", "log_level", "error").status == 0
    assert admin.call("config", "unset", "log_level").status == 0
    assert shipped.command_line("developer").call("timer", "cancel", "none", "--yes").status == 2
    auditor = shipped.command_line("auditor")

    for user in ("auditor", "reader"):
        answer = shipped.command_line(user).call("audit", "actions", "--limit", 3, "--json")
        listed = json.loads(answer.out)["items"]
        assert [(each["action"], each["user"], each["status"]) for each in listed] == [
            ("timer-cancel", "developer", "failed"),
            ("config-unset", "admin", "done"),
            ("config-set", "admin", "done"),
        ]
    history = auditor.call("audit", "history", "flake", "one", "--from-snapshot")
    assert (history.status, "FlakeCreated" in history.out) == (0, True)


def test_auditors_query_the_index_of_the_service(shipped: ShippedServers, tmp_path: Path) -> None:
    cli = shipped.command_line("auditor", tmp_path)

    found = json.loads(cli.call("audit", "search", "--id", "one", "--json").out)["items"]
    assert {entry["type"] for entry in found} == {"CreateFlake", "FlakeCreated"}
    traced = json.loads(cli.call("audit", "trace", found[0]["id"], "--json").out)
    assert [line["id"] for line in traced["lines"]] == [found[-1]["id"], found[0]["id"]]
    assert traced["unverified"] is None
    assert [chain["problem"] for chain in traced["chains"]] == [None]


@pytest.mark.parametrize("role", ["admin", "developer", "reader", "subscriber"])
def test_all_others_query_the_history_from_the_service(
    shipped: ShippedServers, tmp_path: Path, role: str
) -> None:
    cli = shipped.command_line(role, tmp_path)

    history = cli.call("audit", "history", "flake", "one")
    assert (history.status, "chain verified: 1 event" in history.out) == (0, True), history
    assert "FlakeCreated" in cli.call("audit", "search", "--id", "one").out


def test_admins_see_how_far_subscribers_are(shipped: ShippedServers) -> None:
    ended = shipped.command_line("admin").call("subscriber", "show", "stale-builds", "--json")

    assert (ended.status, '"state":"running"' in ended.out) == (0, True), ended


def test_admins_reset_subscribers(shipped: ShippedServers) -> None:
    cli = shipped.command_line("admin")
    reset = ("subscriber", "reset", "stale-builds", "--yes", "--json")

    ended = cli.call(*reset)
    assert (ended.status, json.loads(ended.out)["after"]) == (0, 0), ended
    ended = cli.call(*reset, "--new")
    assert (ended.status, json.loads(ended.out)["events"]) == (0, 0), ended
    assert cli.call(*reset, "--after", 10**9).status == 2
    shown = cli.call("subscriber", "show", "stale-builds", "--json")
    assert (shown.status, json.loads(shown.out)["lag"]) == (0, 0), shown


@pytest.mark.parametrize("role", ["developer", "reader", "auditor", "subscriber"])
def test_others_do_not_reset_subscribers(shipped: ShippedServers, role: str) -> None:
    ended = shipped.command_line(role).call("subscriber", "reset", "stale-builds", "--yes")

    assert (ended.status, "forbids" in ended.err) == (2, True), ended


@pytest.mark.parametrize(
    "words",
    [
        ("health",),
        ("query", "flake", "list"),
        ("send", "nix.cmd.flake.create", "--data", FLAKE),
        ("parked", "list"),
        ("config", "get"),
    ],
)
def test_auditors_do_nothing_else(shipped: ShippedServers, words: tuple[str, ...]) -> None:
    ended = shipped.command_line("auditor").call(*words)

    assert (ended.status, "forbids" in ended.out + ended.err) == (2, True)


class FlakeSubscriber:
    """A subscriber to new flakes, which may be told to fail; `handled` are their ids."""

    def __init__(self) -> None:
        self.handled: asyncio.Queue[str] = asyncio.Queue()
        self.fails = False

    def on(self, client: Client) -> EventSubscriber:
        subscriber = EventSubscriber(client, nix.domain().codec, "subscriber", max_attempts=1)
        return subscriber.subscribe([nix.FlakeCreated], self._handle)

    async def until(self, aggregate_id: str) -> None:
        async with asyncio.timeout(BOUND):
            while await self.handled.get() != aggregate_id:
                pass

    async def _handle(self, _event: Event, recorded: RecordedEvent) -> None:
        await self.handled.put(recorded.aggregate_id)
        if self.fails:
            raise ValueError("not today")


async def test_subscribers_have_a_durable_consumer_on_the_event_stream(subscriber: Client) -> None:
    subscribed = FlakeSubscriber()
    async with CommandClient(subscriber, nix.domain().codec) as commands:
        await commands.execute(nix.CreateFlake(path=".", description=""), "s1")
        async with running(subscribed.on(subscriber)):
            await subscribed.until("s1")
        await commands.execute(nix.CreateFlake(path=".", description=""), "s2")
        async with running(subscribed.on(subscriber)):
            assert await asyncio.wait_for(subscribed.handled.get(), BOUND) == "s2"


async def test_subscribers_may_change_what_they_subscribe_to(subscriber: Client) -> None:
    subscribed, codec = FlakeSubscriber(), nix.domain().codec
    async with CommandClient(subscriber, codec) as commands:
        changed = subscribed.on(subscriber).subscribe([nix.FlakeUpdated], subscribed._handle)
        async with running(changed):
            await changed.ready.wait()
            await commands.execute(nix.CreateFlake(path=".", description=""), "g1")
            await subscribed.until("g1")
            await commands.execute(
                nix.AddFlakeInput(name="nixpkgs", url="github:NixOS/nixpkgs"), "g1"
            )
            await commands.execute(nix.UpdateFlake(), "g1")
            assert await asyncio.wait_for(subscribed.handled.get(), BOUND) == "g1"
        back = subscribed.on(subscriber)
        async with running(back):
            await back.ready.wait()
            await commands.execute(nix.UpdateFlake(), "g1")
            await commands.execute(nix.CreateFlake(path=".", description=""), "g2")
            assert await asyncio.wait_for(subscribed.handled.get(), BOUND) == "g2"


async def test_a_subscribers_event_is_parked_and_retried_by_an_admin(
    shipped: ShippedServers, subscriber: Client
) -> None:
    subscribed = FlakeSubscriber()
    subscribed.fails = True
    async with (
        CommandClient(subscriber, nix.domain().codec) as commands,
        shipped.client("admin") as admin,
        running(subscribed.on(subscriber)),
    ):
        await commands.execute(nix.CreateFlake(path=".", description=""), "fails")
        parked = await _parked(admin, "fails")
        failed = await asyncio.to_thread(retried_by, shipped.command_line("admin"), parked)
        assert (failed.status, "not today" in failed.err) == (2, True), failed
        subscribed.fails = False
        retried = await asyncio.to_thread(retried_by, shipped.command_line("admin"), parked)
        assert (retried.status, "handled by subscriber" in retried.out) == (0, True), retried


def retried_by(cli: CommandLine, parked: int) -> ProcessResult:
    with cli.start("parked", "retry", parked) as running:
        return running.ended()


async def _parked(admin: Client, aggregate_id: str) -> int:
    """The sequence at which an event of the aggregate is parked, when it is."""
    found: list[int] = []
    messages = ParkedMessages(admin, nix.domain().codec.subjects)

    async def is_parked() -> bool:
        reading = messages.read(aggregate="flake", aggregate_id=aggregate_id)
        found.extend([each.sequence async for each in reading])
        return bool(found)

    await until(is_parked)
    return found[0]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("subscriber", "other"),
        ("command_id", "5f1cba2a-6d49-4f44-9d0f-3a6c0d1c2b3a"),
        ("payload", b"{}"),
        ("headers", {}),
        ("sequence", 1_000_000),
    ],
)
async def test_a_subscriber_parks_nothing_but_events_of_its_own(
    subscriber: Client, field: str, value: object
) -> None:
    record = await _record_of_an_event(subscriber)
    subject = f"nix.parked.event.subscriber.{record.subject.removeprefix('nix.event.')}"

    forged = msgspec.structs.replace(record, **{field: value})
    with pytest.raises(JetStreamError) as refused:
        await store_record(subscriber, subject, forged, f"forged-{field}")
    assert refused.value.status == 403
    with pytest.raises(JetStreamError, match="not of the event"):
        await store_record(subscriber, "nix.parked.event.subscriber.a.b", record, "elsewhere")


async def _record_of_an_event(subscriber: Client) -> ParkedRecord:
    event = await DirectReader(subscriber, "NIX_EVENT").at(1, leader=True)
    assert event is not None
    return ParkedRecord(
        subject=event.subject,
        headers=dict(event.headers),
        payload=event.payload,
        code="handler_failed",
        reason="",
        stream="NIX_EVENT",
        sequence=event.sequence,
        stored_at_ns=0,
        delivered=1,
        subscriber="subscriber",
    )


async def test_a_subscriber_sees_nothing_that_others_have_parked(
    shipped: ShippedServers, subscriber: Client
) -> None:
    await park_commands(shipped, "another-ones")
    async with shipped.client("admin") as admin:
        sequence = await _parked(admin, "another-ones")
    parked = ParkedMessages(subscriber, nix.domain().codec.subjects)

    for work in (parked.find, parked.discard):
        with pytest.raises(JetStreamError, match="nothing of subscriber is parked"):
            await work(sequence)


async def test_auditors_can_create_only_plain_readers_of_the_log(
    shipped: ShippedServers,
) -> None:
    def consumer_request(name: str, **config: object) -> dict[str, object]:
        return {"stream_name": "NIX_LOG", "config": {"name": name, **config}, "action": "create"}

    brief = {"inactive_threshold": 1_000_000_000, "metadata": {"start-after": "7"}}
    async with shipped.client("auditor") as client:
        made = await client.api("CONSUMER.CREATE.NIX_LOG.x", consumer_request("x", **brief))
        for request in (
            consumer_request("x"),
            consumer_request("x", **brief, deliver_subject="nix.event.flake.created"),
            consumer_request("x", **brief, durable_name="x"),
            consumer_request("y", **brief),
        ):
            with pytest.raises(JetStreamError) as refused:
                await client.api("CONSUMER.CREATE.NIX_LOG.x", request)
            assert refused.value.status == 403
        with pytest.raises(JetStreamError, match="already exists"):
            await client.api(
                "CONSUMER.CREATE.NIX_LOG.x", consumer_request("x", **brief, max_deliver=7)
            )
        with pytest.raises(PermissionDenied):
            await client.api("CONSUMER.DELETE.NIX_LOG.x")
    assert made["config"]["metadata"]["start-after"] == "7"


def test_the_service_cannot_delete_or_purge_a_stream(shipped: ShippedServers) -> None:
    async def tried() -> None:
        async with shipped.client("service") as client:
            for verb in ("DELETE", "PURGE"):
                for stream in ("NIX_LOG", "NIX_CMD", "KV_NIX_KEYS"):
                    with pytest.raises(PermissionDenied):
                        await client.api(f"STREAM.{verb}.{stream}")

    asyncio.run(tried())


def test_only_the_service_makes_backups(shipped: ShippedServers, tmp_path: Path) -> None:
    """A snapshot goes wherever its request says: who may have one sent could write anywhere."""
    directory = tmp_path / "made"
    words = ("backup", directory, "--without-read-model")
    for role in ROLES:
        refused = shipped.command_line(role).call(*words)
        assert (refused.status, directory.exists()) == (2, False), role
        assert refused.err.startswith("error: ")
    done = shipped.command_line("service").call(*words)
    assert done.status == 0, done.err
    assert shipped.command_line("auditor").call("restore", directory, "--check").status == 0


def test_settings_of_a_user_are_few_and_complete(shipped: ShippedServers) -> None:
    environ = {"NATS_PASSWORD": "secret"}
    settings = load_settings(shipped.directory / "reader.toml", environ)

    assert settings.nats.auth.user == "reader"
    assert settings.nats.inbox_prefix == "_INBOX_c.reader"
    assert settings.nats.api_prefix == "nix.api"
    assert "secret" not in (shipped.directory / "reader.toml").read_text()


async def test_the_console_shows_and_does_what_its_user_may(shipped: ShippedServers) -> None:
    pages = {
        "reader": {"/": 200, "/stories": 200, "/projections": 200, "/live": 200, "/parked": 403},
        "admin": {"/": 200, "/stories": 200, "/parked": 200, "/timers": 200},
    }
    for wanted in pages.values():
        wanted |= {"/processes": 200, "/actions": 200, "/aggregates/flake/one?read=more": 200}
    found, rebuilt = {}, {}
    for user, wanted in pages.items():
        console = ConsoleSettings(operators=("*",))
        settings = msgspec.structs.replace(shipped.settings(user), console=console)
        made = Console(nix_application, settings, is_local=True)
        transport = httpx.ASGITransport(made)
        async with (
            asyncio.timeout(BOUND),
            made,
            httpx.AsyncClient(transport=transport, base_url="http://localhost") as browser,
        ):
            await made.connected()
            found[user] = {path: (await browser.get(path)).status_code for path in wanted}
            path = "/act/projection-rebuild?name=flakes"
            asked = (await browser.get(path)).text
            token = asked.partition('name="form_token" value="')[2].partition('"')[0]
            answer = await browser.post(path, data={"form_token": token})
            rebuilt[user] = answer.status_code

    assert found == pages
    assert rebuilt == {"reader": 403, "admin": 303}
