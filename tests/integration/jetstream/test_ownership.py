"""A log belongs to one application: noted in the metadata of its streams, and respected."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from eventstore.application import WriteSide
from eventstore.client.client import Client, connect
from eventstore.config import AuthSettings, Secret, Settings, StreamSettings
from eventstore.decider.decider import Decider
from eventstore.decider.domain import Domain
from eventstore.errors import ForeignStream
from eventstore.jetstream.ownership import known_aggregates
from eventstore.jetstream.topology import StreamSpec, check, declare, limit_messages, topology
from eventstore.messages.subjects import Subjects
from eventstore.store.store import EventStore
from tests.conftest import StartServer, settings_for
from tests.integration.command_line import CommandLine
from tests.integration.commanding import Add, Added, counter

OTHER: Decider[Any] = Decider("stock", initial=dict)


@pytest.fixture
def subjects(domain_name: str) -> Subjects:
    return Subjects(domain_name)


def specs_of(subjects: Subjects, name: str, *deciders: Decider[Any]) -> list[StreamSpec]:
    domain = Domain(name, deciders or [counter]).renamed(subjects.domain)
    return topology(subjects, StreamSettings(), domain)


async def configs(client: Client, subjects: Subjects) -> dict[str, dict[str, Any]]:
    return {
        spec.name: (await client.api(f"STREAM.INFO.{spec.name}"))["config"]
        for spec in topology(subjects, StreamSettings())
    }


def noted(config: dict[str, Any]) -> dict[str, str]:
    return {
        name: value for name, value in config["metadata"].items() if name.startswith("eventstore.")
    }


async def test_new_streams_name_the_application_and_its_aggregates(
    client: Client, subjects: Subjects
) -> None:
    await declare(client, specs_of(subjects, "shop", counter, OTHER))
    expected = {"eventstore.domain": "shop", "eventstore.aggregates": "counter,stock"}
    for config in (await configs(client, subjects)).values():
        assert noted(config) == expected


async def test_a_domain_is_named_once(start_server: StartServer) -> None:
    shop = Domain("shop", [counter])
    server = await start_server()
    settings = Settings().with_url(server.url)
    async with connect(settings) as client, EventStore(client, shop.codec) as store:
        await declare(client, topology(shop.codec.subjects, settings.streams, shop))
        appended = await store.append("counter", "c", Added(amount=1))
        names = (await client.api("STREAM.NAMES"))["streams"]
        assert len(names) == 10
        assert all(name.removeprefix("KV_").startswith("SHOP_") for name in names)
        message = await client.nats.jetstream().get_msg("SHOP_LOG", appended.position)
        assert message.subject == "shop.log.counter.c"
        async with WriteSide(shop, settings) as service:  # which finds them as its own
            outcome = await service.commands.execute(Add(amount=2), "c", timeout=45.0)
        assert outcome.position == 2


async def test_streams_of_an_earlier_release_get_the_note_and_keep_all_else(
    client: Client, subjects: Subjects
) -> None:
    plain = topology(subjects, StreamSettings())
    await client.api(
        f"STREAM.CREATE.{plain[0].name}", {**plain[0].request, "metadata": {"team": "blue"}}
    )
    await declare(client, plain)
    await limit_messages(client, subjects.command_stream, 77)
    before = await configs(client, subjects)

    await declare(client, specs_of(subjects, "shop"))
    after = await configs(client, subjects)
    await check(client, specs_of(subjects, "shop"))
    await declare(client, plain)  # the earlier release goes on, beside it
    assert await configs(client, subjects) == after
    assert after[plain[0].name]["metadata"]["team"] == "blue"
    for name, config in after.items():
        assert noted(config)["eventstore.domain"] == "shop"
        assert {**config, "metadata": None} == {**before[name], "metadata": None}


async def test_an_older_release_that_starts_last_takes_no_aggregate_away(
    client: Client, subjects: Subjects
) -> None:
    for deciders in ((counter,), (counter, OTHER), (counter,)):
        await declare(client, specs_of(subjects, "shop", *deciders))
        await check(client, specs_of(subjects, "shop", *deciders))
    assert await known_aggregates(client, subjects.log_stream) == {"counter", "stock"}


async def test_of_two_applications_with_one_prefix_the_second_is_refused(
    client: Client, settings: Settings, subjects: Subjects
) -> None:
    await declare(client, specs_of(subjects, "shop")[:1])
    before = (await client.api(f"STREAM.INFO.{subjects.log_stream}"))["config"]
    for ask in (declare, check):
        with pytest.raises(ForeignStream, match="belongs to the application shop, not to bank"):
            await ask(client, specs_of(subjects, "bank"))
    with pytest.raises(ForeignStream, match="subject prefix of its own") as refusal:
        async with WriteSide(Domain("bank", [counter]), settings):
            pass
    assert (refusal.value.owner, refusal.value.application) == ("shop", "bank")
    assert (await client.api(f"STREAM.INFO.{subjects.log_stream}"))["config"] == before
    names = (await client.api("STREAM.NAMES", {"subject": f"{subjects.domain}.>"}))["streams"]
    assert names == [subjects.log_stream]  # nothing else was created


async def test_nothing_is_created_if_only_the_last_stream_is_anothers(
    client: Client, subjects: Subjects
) -> None:
    await declare(client, specs_of(subjects, "shop")[-1:])
    with pytest.raises(ForeignStream, match="_ACTION"):
        await declare(client, specs_of(subjects, "bank"))
    names = (await client.api("STREAM.NAMES", {"subject": f"{subjects.domain}.>"}))["streams"]
    assert names == [subjects.action_stream]


def test_serve_refuses_the_log_of_another_application(
    settings: Settings, subjects: Subjects, tmp_path: Path
) -> None:
    async def prepare() -> None:
        async with connect(settings) as client:
            await declare(client, specs_of(subjects, "shop"))

    asyncio.run(prepare())
    (tmp_path / "own.toml").write_text(f'[nats]\nsubject_prefix = "{subjects.domain}"\n')
    cli = CommandLine(tmp_path, EVENTSTORE_CONFIG="own.toml")
    ended = cli.call("serve", "--nats-url", settings.nats.url[0])
    assert ended.status == 2, ended
    assert "belongs to the application shop, not to nix" in ended.err


async def test_a_user_who_may_not_change_streams_goes_on_without_the_note(
    start_server: StartServer, subjects: Subjects
) -> None:
    users = """
        authorization { users = [
          { user: all, password: all }
          { user: few, password: few, permissions: { publish: { deny: "$JS.API.*.UPDATE.>" } } }
        ] }
    """
    server = await start_server(extra_config=users)

    def as_user(name: str) -> Client:
        return connect(
            settings_for(server.url, auth=AuthSettings(user=name, password=Secret(name)))
        )

    async with as_user("all") as client, as_user("few") as few:
        await declare(client, topology(subjects, StreamSettings()))
        assert await declare(few, specs_of(subjects, "shop")) == []
        assert await known_aggregates(client, subjects.log_stream) == frozenset()
