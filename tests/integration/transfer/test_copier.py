"""Copies of an export in which events are renamed, split, dropped or masked."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventstore.client.client import Client
from eventstore.errors import TransferError
from eventstore.messages.codec import Codec
from eventstore.messages.headers import AUTHENTICATED_AS, COMMAND_DIGEST, Header
from eventstore.store.append import Append
from eventstore.store.store import EventStore
from eventstore.transfer import CopiedEvent, CopySummary, check_file, copy
from eventstore.transfer.copier import TRANSFORMED
from eventstore.transfer.transformation import Transform
from tests.integration.ledger import Deposited, Noted, Opened, ledger, read_all
from tests.integration.tampering import findings, stored
from tests.integration.transferring import events, exported, imported, lines, written_file


@pytest.fixture
async def file(client: Client, store: EventStore, codec: Codec, tmp_path: Path) -> Path:
    """Positions: a1 has 1, 2, 4, 5, 6, 8 (2 alone, 4 to 6 a batch); a2 has 3; the journal 7."""
    await store.append("account", "a1", Opened(owner="ann"), actor="ann")
    await store.append("account", "a1", Deposited(amount=1))
    await store.append("account", "a2", Opened(owner="bob"))
    await store.append("account", "a1", [Deposited(amount=n) for n in (2, 3, 4)])
    await store.append("journal", "j", Noted(text="private"))
    await store.append("account", "a1", Deposited(amount=5))
    await exported(client, codec, tmp_path / "log.gz")
    return tmp_path / "log.gz"


Check = Callable[[Transform], Any]


@pytest.fixture
def copied(client: Client, codec: Codec, file: Path, tmp_path: Path) -> Check:
    """Copies the file, imports the copy in place of the log, and verifies it."""

    async def check(transform: Transform) -> tuple[CopySummary, list[dict[str, Any]]]:
        target = tmp_path / "new.gz"
        done = await copy(file, target, transform, name="test")
        await client.api(f"STREAM.DELETE.{codec.subjects.log_stream}")
        await imported(client, codec, target)
        assert await findings(client, codec) == []
        assert done.before == 8
        assert done.after == len(events(target)) == len(await stored(client, codec))
        found = events(target)
        for line in found:
            line["headers"] = dict(line["headers"])
        return done, found

    return check


def changed(found: list[dict[str, Any]]) -> list[int]:
    """The positions of events with a header of a transformation."""
    return [line["position"] for line in found if TRANSFORMED in line["headers"]]


async def test_unchanged_events_stay_byte_for_byte(copied: Check, file: Path) -> None:
    before = events(file)
    done, after = await copied(lambda event: event)
    for line in after:
        line["headers"] = list(line["headers"].items())
    assert after == before
    assert +done.renamed == +done.masked == done.split == done.dropped == {}


async def test_masked(copied: Check, file: Path) -> None:
    def mask(event: CopiedEvent) -> CopiedEvent:
        if event.type == "Opened":
            return event.replace(data={**event.data, "owner": "***"}, actor=None)
        return event.replace(data={"text": ""}) if event.type == "Noted" else event

    original = events(file)
    done, found = await copied(mask)

    assert +done.masked == {"Opened": 2, "Noted": 1}
    assert +done.renamed == done.split == done.dropped == {}
    assert found[0]["text"] == '{"owner":"***"}'
    assert Header.ACTOR not in found[0]["headers"]
    assert "ann" not in str(found)
    assert changed(found) == list(range(1, 9)), "what follows a masked event has another chain"
    was = dict(original[0]["headers"])
    assert found[0]["headers"][TRANSFORMED] == (
        f"test; id={was[Header.EVENT_ID]}; chain={was[Header.CHAIN]}"
    )
    assert [line["headers"][Header.EVENT_ID] for line in found] == [
        dict(line["headers"])[Header.EVENT_ID] for line in original
    ]


async def test_other_headers_do_not_reveal_what_a_copy_has_dropped(
    client: Client, store: EventStore, codec: Codec, tmp_path: Path
) -> None:
    sender, digest = "CLIENTS/ann", f"{'a' * 16}-{'b' * 32}"
    for owner in ("ann", "bob", "eve"):
        append = Append(
            aggregate="account",
            aggregate_id=owner,
            events=[Opened(owner=owner)],
            actor=owner,
            authenticated_as=sender,
            command_digest=digest,
        )
        await store.append_all(append)
    await exported(client, codec, tmp_path / "log.gz")

    def mask(event: CopiedEvent) -> CopiedEvent:
        if event.aggregate_id == "ann":
            return event.replace(data={"owner": "***"})
        return event.replace(actor=None) if event.aggregate_id == "bob" else event

    await copy(tmp_path / "log.gz", tmp_path / "new.gz", mask, name="test")
    headers = [dict(line["headers"]) for line in events(tmp_path / "new.gz")]
    assert [AUTHENTICATED_AS in each for each in headers] == [True, False, True]
    assert [COMMAND_DIGEST in each for each in headers] == [False, True, True]


async def test_renamed(copied: Check) -> None:
    def rename(event: CopiedEvent) -> CopiedEvent:
        return event.replace(aggregate_id="renamed") if event.aggregate_id == "a2" else event

    done, found = await copied(rename)

    assert +done.renamed == {"Opened": 1}
    assert changed(found) == [3], "the others' aggregates are as they were"
    assert found[2]["subject"].endswith(".account.renamed")
    assert found[2]["headers"][Header.AGGREGATE_ID] == "renamed"


async def test_a_renamed_type_is_unknown_until_the_code_defines_it(
    client: Client, file: Path, codec: Codec, tmp_path: Path
) -> None:
    def rename(event: CopiedEvent) -> CopiedEvent:
        return event.replace(type="Paid", schema_version=2) if event.type == "Deposited" else event

    done = await copy(file, tmp_path / "new.gz", rename, name="test")
    await client.api(f"STREAM.DELETE.{codec.subjects.log_stream}")
    await imported(client, codec, tmp_path / "new.gz")
    assert +done.renamed == {"Deposited": 5}
    assert +done.masked == {"Deposited": 5}
    assert [finding.kind for finding in await findings(client, codec)] == ["unknown_type"] * 5


async def test_dropped(copied: Check) -> None:
    def drop(event: CopiedEvent) -> CopiedEvent | None:
        return None if event.position in (2, 5) else event

    done, found = await copied(drop)

    assert done.dropped == {"Deposited": 2}
    versions = [
        line["headers"][Header.AGGREGATE_VERSION]
        for line in found
        if line["subject"].endswith(".a1")
    ]
    assert versions == ["1", "2", "3", "4"]
    batch = [line["headers"] for line in found[2:4]]
    assert [headers["Nats-Batch-Sequence"] for headers in batch] == ["1", "2"]
    assert ["Nats-Batch-Commit" in headers for headers in batch] == [False, True]
    assert changed(found) == [3, 4, 6], "those before, and of others, are as they were"


async def test_the_only_event_left_of_a_batch_is_a_single_one(copied: Check) -> None:
    done, found = await copied(lambda event: None if event.position in (4, 6) else event)
    assert done.after == 6
    assert not any("Nats-Batch-Id" in line["headers"] for line in found)


async def test_everything_dropped_leaves_nothing(copied: Check) -> None:
    done, found = await copied(lambda _: None)
    assert (done.after, found) == (0, [])


async def test_split(copied: Check, file: Path, client: Client, codec: Codec) -> None:
    def split(event: CopiedEvent) -> CopiedEvent | list[CopiedEvent]:
        if event.type != "Deposited" or event.position not in (2, 5):
            return event
        note = event.replace(type="Noted", aggregate="journal", data={"text": "paid"})
        return [event, note]

    original = [dict(line["headers"])[Header.EVENT_ID] for line in events(file)]
    done, found = await copied(split)

    assert done.split == {"Deposited": 2}
    assert done.after == 10
    subjects = [line["subject"].partition(".log.")[2] for line in found]
    assert subjects[1:3] == ["account.a1", "journal.a1"]
    ids = [line["headers"][Header.EVENT_ID] for line in found]
    assert len(set(ids)) == 10
    assert set(original) - set(ids) == {original[1], original[4]}
    assert ids[1] == str(uuid.uuid5(uuid.UUID(original[1]), "test.0"))
    sequences = [line["headers"].get("Nats-Batch-Sequence") for line in found]
    assert sequences == [None, "1", "2", None, "1", "2", "3", "4", None, None]
    commits = [line["headers"].get("Nats-Batch-Commit") for line in found]
    assert commits == [None, None, "1", None, None, None, None, "1", None, None]
    async with EventStore(client, codec) as store:
        assert [event.type for event in await read_all(store)][:3] == [
            "Opened",
            "Deposited",
            "Noted",
        ]


async def test_to_another_domain(client: Client, codec: Codec, file: Path, tmp_path: Path) -> None:
    other = ledger(f"{codec.domain}x")
    await copy(file, tmp_path / "new.gz", lambda event: event, name="test", domain=other.domain)
    await imported(client, other, tmp_path / "new.gz")
    assert await findings(client, other) == []
    async with EventStore(client, other) as store:
        assert {event.envelope.domain for event in await read_all(store)} == {other.domain}


async def test_the_file_names_its_transformations_and_its_source(
    file: Path, tmp_path: Path
) -> None:
    def same(event: CopiedEvent) -> CopiedEvent:
        return event

    await copy(file, tmp_path / "one.gz", same, name="one")
    await copy(tmp_path / "one.gz", tmp_path / "two.gz", same)
    transformed = lines(tmp_path / "two.gz")[0]["transformed"]
    assert [each["by"] for each in transformed] == [
        "one",
        f"{__name__}:test_the_file_names_its_transformations_and_its_source.<locals>.same",
    ]
    assert [each["events"] for each in transformed] == [8, 8]
    assert transformed[0]["source"] == (await check_file(file))[1].sums.value


def _failing(_: CopiedEvent) -> CopiedEvent:
    raise RuntimeError("no idea")


@pytest.mark.parametrize(
    ("transform", "problem"),
    [
        (_failing, r"position 1 \(Opened\): test failed: RuntimeError: no idea"),
        (lambda event: event.replace(id="x"), "an event's id cannot be replaced"),
        (lambda event: event.replace(cake=1), "TypeError"),
        (lambda event: event.replace(aggregate_id="a.b"), "position 1: aggregate id 'a.b' is not"),
        (lambda event: event.replace(aggregate="A"), "position 1: aggregate 'A' is not allowed"),
        (lambda event: event.replace(type="no type"), "position 1 became invalid: header X-Event"),
        (lambda event: event.replace(actor=" x"), "position 1 became invalid: header X-Actor"),
        (lambda event: [event] * 1_001, "position 1: a batch would have 1,001 events"),
        (lambda event: [1], "position 1 .*CopiedEvent"),
        (lambda event: "text", "position 1 .*CopiedEvent"),
        (
            lambda event: 7,
            r"position 1 \(Opened\): test returned .*7.*, which is neither a CopiedEvent",
        ),
        (
            lambda event: False,
            r"position 1 \(Opened\): test returned False, which is neither a CopiedEvent",
        ),
    ],
    ids=lambda value: "transform" if callable(value) else value.split(":")[0].replace(" ", "-"),
)
async def test_an_invalid_transformation_is_named_and_leaves_no_file(
    file: Path, tmp_path: Path, transform: Any, problem: str
) -> None:
    with pytest.raises(TransferError, match=problem):
        await copy(file, tmp_path / "new.gz", transform, name="test")
    assert sorted(os.listdir(tmp_path)) == ["log.gz"]


async def test_an_existing_file_is_not_overwritten(file: Path, tmp_path: Path) -> None:
    with pytest.raises(TransferError, match=r"log\.gz exists already"):
        await copy(file, file, lambda event: event, name="test")


async def test_a_foreign_message_cannot_be_copied(
    client: Client, codec: Codec, file: Path, tmp_path: Path
) -> None:
    log = await stored(client, codec)
    for name, odd, problem in (
        ("headers", {"headers": {"X-Note": "1"}}, "it has no envelope"),
        ("subject", {"subject": "elsewhere"}, "subject 'elsewhere' is not"),
    ):
        path = tmp_path / name
        await written_file(path, codec, [log[0], msgspec.structs.replace(log[1], **odd)])
        with pytest.raises(TransferError, match=f"position 2 cannot be copied: {problem}"):
            await copy(path, tmp_path / "new.gz", lambda event: event)


async def test_a_name_that_no_header_can_contain_is_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(TransferError, match="a transformation cannot be called"):
        await copy(file, tmp_path / "new.gz", lambda event: event, name="a\nb")
