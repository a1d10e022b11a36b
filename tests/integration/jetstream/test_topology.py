"""The topology on a real server: created once, then checked, never changed."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from nats.js.errors import APIError

from eventstore.client.client import Client, connect
from eventstore.config import AuthSettings, Secret, Settings, StreamSettings
from eventstore.errors import NoJetStream, StreamDrift, StreamMissing, TopologyError
from eventstore.jetstream.topology import (
    ConsumerSpec,
    StreamSpec,
    check,
    declare,
    declare_consumer,
    topology,
)
from eventstore.messages.codec import Codec
from eventstore.store.store import EventStore
from tests.conftest import StartServer, settings_for
from tests.integration.ledger import Opened, jetstream, read

DAY = 86_400 * 1_000_000_000
MINUTE = 60 * 1_000_000_000


def specs_of(codec: Codec, **settings: Any) -> list[StreamSpec]:
    return topology(codec.subjects, StreamSettings(**settings))


@pytest.fixture
def specs(codec: Codec) -> list[StreamSpec]:
    return specs_of(codec)


async def config_of(client: Client, name: str) -> dict[str, Any]:
    config: dict[str, Any] = (await client.api(f"STREAM.INFO.{name}"))["config"]
    return config


async def configs(client: Client, specs: list[StreamSpec]) -> list[dict[str, Any]]:
    return [await config_of(client, spec.name) for spec in specs]


async def streams_of(client: Client, domain: str) -> set[str]:
    names: set[str] = set()
    total = 1
    while len(names) < total:  # the server names them in pages
        answer = await client.api("STREAM.NAMES", {"offset": len(names)})
        names.update(answer["streams"] or [])
        total = answer["total"]
    return {name for name in names if domain.upper() in name}


async def test_all_streams_and_buckets_are_created_with_the_significant_settings(
    client: Client, specs: list[StreamSpec], domain_name: str
) -> None:
    upper = domain_name.upper()
    created = await declare(client, specs)
    names = {f"{upper}_{name}" for name in ("LOG", "TIMER", "CMD", "EVENT", "PARKED", "ACTION")}
    names |= {f"KV_{upper}_{name}" for name in ("SNAPSHOTS", "OUTCOMES", "CONFIG", "KEYS")}
    assert set(created) == names == await streams_of(client, domain_name)

    expected: dict[str, dict[str, Any]] = {
        f"{upper}_LOG": {
            "subjects": [f"{domain_name}.log.*.*"],
            "retention": "limits",
            "storage": "file",
            "discard": "new",
            "max_age": 0,
            "max_bytes": -1,
            "max_msgs": -1,
            "max_msgs_per_subject": -1,
            "deny_delete": True,
            "deny_purge": True,
            "allow_direct": True,
            "allow_atomic": True,
            "duplicate_window": 2 * MINUTE,
            "num_replicas": 1,
            "compression": "none",
        },
        f"{upper}_TIMER": {
            "subjects": [f"{domain_name}.timer.*.*.*", f"{domain_name}.due.*.*"],
            "retention": "limits",
            "storage": "file",
            "discard": "old",
            "max_age": 0,
            "max_bytes": -1,
            "max_msgs": -1,
            "max_msgs_per_subject": -1,
            "allow_msg_schedules": True,
        },
        f"{upper}_CMD": {
            "subjects": [f"{domain_name}.cmd.*.*"],
            "retention": "workqueue",
            "storage": "file",
            "discard": "new",
            "max_age": 0,
            "max_msgs": 1_000_000,
            "duplicate_window": 2 * MINUTE,
        },
        f"{upper}_EVENT": {
            "subjects": [f"{domain_name}.event.*.*"],
            "retention": "limits",
            "storage": "file",
            "max_age": 7 * DAY,
        },
        f"{upper}_PARKED": {
            "subjects": [f"{domain_name}.parked.>"],
            "retention": "limits",
            "storage": "file",
            "max_age": 0,
        },
        f"{upper}_ACTION": {
            "subjects": [f"{domain_name}.action.*.*"],
            "retention": "limits",
            "storage": "file",
            "discard": "new",
            "discard_new_per_subject": True,
            "max_age": 0,
            "max_msgs_per_subject": 2,
            "deny_delete": True,
            "deny_purge": True,
        },
        f"KV_{upper}_OUTCOMES": {"max_age": 30 * DAY, "max_msgs_per_subject": 1},
        f"KV_{upper}_SNAPSHOTS": {"max_age": 0, "max_msgs_per_subject": 1},
        f"KV_{upper}_CONFIG": {"max_age": 0, "max_msgs_per_subject": 1},
    }
    for name, settings in expected.items():
        found = await config_of(client, name)
        assert {key: found.get(key) for key in settings} == settings
        assert not found.get("sealed")
        assert not found.get("no_ack")
    assert not (await config_of(client, f"{upper}_LOG")).get("allow_rollup_hdrs")


async def test_configurable_settings_are_applied(client: Client, codec: Codec) -> None:
    specs = specs_of(
        codec,
        compression=True,
        duplicate_window_ms=5_000,
        event_max_age_days=3,
        outcome_max_age_days=2,
    )
    await declare(client, specs)
    log, _, commands, feed, _, _, outcomes, *_ = await configs(client, specs)
    assert log["compression"] == commands["compression"] == "s2"
    assert log["duplicate_window"] == commands["duplicate_window"] == 5_000_000_000
    assert (feed["max_age"], outcomes["max_age"]) == (3 * DAY, 2 * DAY)


@pytest.mark.parametrize("compression", [True, False])
async def test_a_second_declaration_creates_and_changes_nothing(
    client: Client, codec: Codec, compression: bool
) -> None:
    specs = specs_of(codec, compression=compression)
    await declare(client, specs)
    before = await configs(client, specs)
    assert await declare(client, specs) == []
    assert await configs(client, specs) == before
    await check(client, specs)


async def test_ten_concurrent_declarations_agree(
    settings: Settings, client: Client, specs: list[StreamSpec], domain_name: str
) -> None:
    async def declare_alone() -> None:
        async with connect(settings) as own:
            await declare(own, specs)

    async with asyncio.TaskGroup() as group:
        for _ in range(10):
            group.create_task(declare_alone())
    assert await streams_of(client, domain_name) == {spec.name for spec in specs}
    await check(client, specs)


async def test_of_concurrent_different_declarations_one_succeeds(
    settings: Settings, client: Client, codec: Codec
) -> None:
    async def declare_alone(window: int) -> bool:
        async with connect(settings) as own:
            try:
                await declare(own, specs_of(codec, duplicate_window_ms=window)[:1])
            except StreamDrift as drift:
                assert set(drift.differences) == {"duplicate_window"}  # noqa: PT017
                return False
            return True

    windows = [1_000 * (1 + number) for number in range(8)]
    agreed = await asyncio.gather(*map(declare_alone, windows))
    assert agreed.count(True) == 1
    await check(client, specs_of(codec, duplicate_window_ms=windows[agreed.index(True)])[:1])


DRIFTS: list[tuple[int, dict[str, object]]] = [
    (0, {"deny_delete": False}),
    (0, {"deny_purge": False}),
    (0, {"allow_atomic": False, "allow_direct": False}),
    (0, {"max_age": DAY, "duplicate_window": MINUTE, "compression": "s2"}),
    (0, {"max_msgs": 1_000, "max_bytes": 1_000_000, "discard": "old"}),
    (0, {"storage": "memory", "max_msg_size": 1_000}),
    (0, {"no_ack": True}),
    (0, {"max_msgs_per_subject": 5}),
    (1, {"allow_msg_schedules": False}),
    (1, {"max_msgs_per_subject": 1, "max_age": DAY}),
    (1, {"max_msgs": 1_000, "max_bytes": 1_000_000}),
    (2, {"retention": "limits"}),
    (2, {"max_age": DAY}),
    (3, {"max_age": DAY}),
    (4, {"storage": "memory"}),
    (5, {"max_msgs_per_subject": 5, "max_age": DAY}),
    (6, {"max_age": DAY}),
]


@pytest.mark.parametrize(("which", "changed"), DRIFTS)
async def test_every_differing_setting_is_named_and_nothing_is_changed(
    client: Client, specs: list[StreamSpec], which: int, changed: dict[str, object]
) -> None:
    spec = specs[which]
    await client.api(f"STREAM.CREATE.{spec.name}", {**spec.request, **changed})
    before = await config_of(client, spec.name)
    for ask in (declare, check):
        with pytest.raises(StreamDrift) as drift:
            await ask(client, [spec])
        assert drift.value.stream == spec.name
        assert drift.value.differences == {
            name: (spec.settings[name], found) for name, found in changed.items()
        }
        for name, found in changed.items():
            assert f"{name} is {found!r}, declared {spec.settings[name]!r}" in str(drift.value)
    assert await config_of(client, spec.name) == before


async def test_a_command_stream_of_an_earlier_release_gets_its_source(
    client: Client, specs: list[StreamSpec]
) -> None:
    commands = specs[2]
    earlier = {name: value for name, value in commands.request.items() if name != "sources"}
    await client.api(f"STREAM.CREATE.{commands.name}", {**earlier, "description": "ours"})
    with pytest.raises(StreamDrift, match="sources is None"):
        await check(client, [commands])
    await declare(client, specs)
    await check(client, specs)
    assert (await config_of(client, commands.name))["description"] == "ours"


async def test_another_source_of_the_command_stream_is_drift(
    client: Client, specs: list[StreamSpec]
) -> None:
    commands, other = specs[2], [{"name": "OTHER"}]
    await client.api(f"STREAM.CREATE.{commands.name}", {**commands.request, "sources": other})
    with pytest.raises(StreamDrift, match="sources is"):
        await declare(client, [commands])
    assert (await config_of(client, commands.name))["sources"] == other


async def test_other_subjects_are_drift(client: Client, specs: list[StreamSpec]) -> None:
    log = specs[0]
    subjects = [*log.settings["subjects"], f"{log.name}.more"]
    await client.api(f"STREAM.CREATE.{log.name}", {**log.request, "subjects": subjects})
    with pytest.raises(StreamDrift, match="subjects is") as drift:
        await declare(client, specs)
    assert drift.value.differences == {"subjects": (log.settings["subjects"], subjects)}


async def test_insignificant_settings_may_differ(client: Client, specs: list[StreamSpec]) -> None:
    log = specs[0]
    own = {"description": "ours", "metadata": {"owner": "team"}}
    await client.api(f"STREAM.CREATE.{log.name}", {**log.request, **own})
    await declare(client, specs)
    await check(client, specs)
    assert (await config_of(client, log.name))["description"] == "ours"


async def test_a_subject_of_a_foreign_stream_is_reported(
    client: Client, specs: list[StreamSpec], domain_name: str
) -> None:
    foreign = f"{domain_name}_foreign"
    await client.api(
        f"STREAM.CREATE.{foreign}", {"name": foreign, "subjects": [f"{domain_name}.log.>"]}
    )
    with pytest.raises(TopologyError, match="another stream already has one of") as refusal:
        await declare(client, specs)
    assert specs[0].name in str(refusal.value)
    assert f"{domain_name}.log.*.*" in str(refusal.value)


async def test_too_many_replicas_for_one_server_are_refused(client: Client, codec: Codec) -> None:
    specs = specs_of(codec, replicas=3)
    with pytest.raises(TopologyError, match=f"{specs[0].name}.*replicas > 1"):
        await declare(client, specs)


async def test_checking_names_the_first_stream_that_is_missing(
    client: Client, specs: list[StreamSpec]
) -> None:
    with pytest.raises(StreamMissing, match=specs[0].name):
        await check(client, specs)
    await declare(client, specs[:3])
    with pytest.raises(StreamMissing, match=specs[3].name):
        await check(client, specs)


async def test_existing_messages_remain_when_the_topology_is_completed(
    client: Client, codec: Codec, specs: list[StreamSpec]
) -> None:
    await declare(client, specs[:1])
    async with EventStore(client, codec) as store:
        await store.append("account", "a1", Opened())
        assert await declare(client, specs) == [spec.name for spec in specs[1:]]
        assert len(await read(store, "a1")) == 1


async def test_the_server_refuses_to_change_history(
    client: Client, codec: Codec, store: EventStore
) -> None:
    appended = await store.append("account", "a1", Opened())
    stream, plain = codec.subjects.log_stream, jetstream(client)
    with pytest.raises(APIError, match="message delete not permitted"):
        await plain.delete_msg(stream, appended.position)
    with pytest.raises(APIError, match="purge not permitted"):
        await plain.purge_stream(stream)
    with pytest.raises(APIError, match="rollup not permitted"):
        await plain.publish(
            codec.subjects.log("account", "a1"), b"", headers={"Nats-Rollup": "sub"}
        )
    config = await config_of(client, stream)
    for setting in ("deny_delete", "deny_purge"):
        with pytest.raises(APIError, match="can not cancel deny"):
            await plain._api_request(
                f"$JS.API.STREAM.UPDATE.{stream}",
                msgspec.json.encode({**config, setting: False}),
            )
    assert len(await read(store, "a1")) == 1


async def test_plain_clients_can_use_the_buckets(
    client: Client, codec: Codec, specs: list[StreamSpec]
) -> None:
    await declare(client, specs)
    subjects = codec.subjects
    for name in (subjects.snapshot_bucket, subjects.outcome_bucket, subjects.config_bucket):
        bucket = await jetstream(client).key_value(name)
        await bucket.put("a.key", b"one")
        await bucket.put("a.key", b"two")
        assert (await bucket.get("a.key")).value == b"two"
        assert (await bucket.status()).values == 1
        await bucket.delete("a.key")
        await bucket.purge("a.key")
    outcomes = await jetstream(client).key_value(subjects.outcome_bucket)
    assert (await outcomes.status()).ttl == 30 * 86_400


CONSUMER = {"durable_name": "worker", "ack_policy": "explicit", "ack_wait": MINUTE}


async def test_a_consumer_is_declared_once_and_its_drift_is_reported(
    client: Client, specs: list[StreamSpec]
) -> None:
    commands = specs[1].name
    await declare(client, specs)
    spec = ConsumerSpec(commands, "worker", {**CONSUMER, "max_ack_pending": 100})
    await declare_consumer(client, spec)
    await declare_consumer(client, spec)

    other = ConsumerSpec(
        commands, "worker", {**CONSUMER, "ack_wait": 2 * MINUTE, "max_ack_pending": 7}
    )
    with pytest.raises(StreamDrift) as drift:
        await declare_consumer(client, other)
    assert drift.value.differences == {
        "ack_wait": (2 * MINUTE, MINUTE),
        "max_ack_pending": (7, 100),
    }
    info = await client.api(f"CONSUMER.INFO.{commands}.worker")
    assert info["config"]["max_ack_pending"] == 100


async def test_a_consumer_of_a_missing_stream_is_an_error(client: Client, codec: Codec) -> None:
    spec = ConsumerSpec(codec.subjects.command_stream, "worker", CONSUMER)
    with pytest.raises(StreamMissing, match=codec.subjects.command_stream):
        await declare_consumer(client, spec)


async def test_a_server_without_jetstream_is_named_as_that(
    start_server: StartServer, specs: list[StreamSpec]
) -> None:
    server = await start_server(extra_config="jetstream: disabled")
    async with connect(settings_for(server.url)) as client:
        match = rf"not enabled on .*127\.0\.0\.1:{server.port}: start nats-server with -js"
        with pytest.raises(NoJetStream, match=match):
            await declare(client, specs)


async def test_an_account_without_jetstream_is_named_as_that(
    start_server: StartServer, specs: list[StreamSpec]
) -> None:
    accounts = "accounts { WITHOUT { users: [{user: ann, password: pw}] } }"
    server = await start_server(extra_config=accounts)
    auth = AuthSettings(user="ann", password=Secret("pw"))
    async with connect(settings_for(server.url, auth=auth)) as client:
        with pytest.raises(NoJetStream, match="for this user's account"):
            await declare(client, specs)
