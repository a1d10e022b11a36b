"""A complete log to a file and back: byte for byte, also after interruptions, and never mixed."""

from __future__ import annotations

import asyncio
import gzip
import io
import itertools
import os
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventstore.client.client import Client, connect
from eventstore.config import StreamSettings
from eventstore.errors import (
    DamagedFile,
    EventTooLarge,
    ImportRefused,
    JetStreamError,
    NoResponders,
    StreamDrift,
    StreamMissing,
    TransferError,
)
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.jetstream.topology import check, topology
from eventstore.messages.codec import Codec
from eventstore.server.embedded import EmbeddedServer
from eventstore.store.store import EventStore
from eventstore.transfer import check_file, copy, export_to
from eventstore.transfer import file_writer as writing
from eventstore.transfer import importer as importing
from eventstore.transfer import sender as sending
from eventstore.transfer.fence import Fence
from eventstore.transfer.file_format import EventLine, FileSums, FirstLine
from eventstore.transfer.file_writer import partial_file
from eventstore.transfer.sender import Sender, SendUnit
from tests.conftest import StartServer, settings_for
from tests.integration.command_line import ROOT
from tests.integration.ledger import (
    Deposited,
    Opened,
    declare_log,
    last_position,
    ledger,
    read,
    read_all,
)
from tests.integration.tampering import (
    Log,
    Tamper,
    changed,
    findings,
    moved,
    ordered,
    plain_stream,
    stored,
)
from tests.integration.transferring import (
    events,
    exported,
    fill,
    flipped,
    imported,
    lines,
    rewritten,
    shortened,
    without_expected,
    written_file,
)
from tests.proxy import TcpProxy


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small members, so that a log of some hundred events has several."""
    monkeypatch.setattr(writing, "_MAX_EVENTS", 100)
    monkeypatch.setattr(importing, "_REPORT_EVENTS", 10)
    monkeypatch.setattr(sending, "_MAX_IN_FLIGHT", 50)


@pytest.fixture
async def other(other_server: EmbeddedServer, domain_name: str) -> AsyncIterator[Client]:
    async with connect(settings_for(other_server.url, domain_name)) as client:
        yield client


@pytest.fixture
async def file(client: Client, store: EventStore, codec: Codec, tmp_path: Path) -> Path:
    """An export of 11 events."""
    await fill(client, store, codec)
    await exported(client, codec, tmp_path / "log.gz")
    return tmp_path / "log.gz"


async def test_what_is_imported_is_byte_for_byte_what_was_exported(
    client: Client, other: Client, codec: Codec, file: Path, tmp_path: Path
) -> None:
    done = await imported(other, codec, file)

    assert (done.events, done.before) == (11, 0)
    assert await without_expected(other, codec) == await without_expected(client, codec)
    again = await exported(other, codec, tmp_path / "again.gz")
    assert (again.events, again.position) == (11, 11)
    assert events(tmp_path / "again.gz") == events(file)
    assert await findings(other, codec) == await findings(client, codec)


async def test_an_imported_log_can_be_appended_to(other: Client, codec: Codec, file: Path) -> None:
    await imported(other, codec, file)
    await check(other, topology(codec.subjects, StreamSettings())[:1])
    async with EventStore(other, codec) as store:
        appended = await store.append("account", "a1", Deposited(), expected=6)
        assert (appended.version, appended.position) == (7, 12)
        assert [event.version for event in await read(store, "a1")] == list(range(1, 8))


async def test_the_file_is_json_lines_and_describes_itself(file: Path, codec: Codec) -> None:
    first, *middle, last = lines(file)

    assert (first["line"], first["domain"], first["first"], first["last"]) == (
        *("log", codec.domain, 1),
        11,
    )
    assert [line["position"] for line in middle] == list(range(1, 12))
    assert middle[0]["text"] == '{"owner":"änn"}'
    assert middle[9]["binary"] == "/wAgbm8gdGV4dA=="
    assert middle[10]["text"] == ""
    assert (last["line"], last["events"], last["position"]) == ("end", 11, 11)
    found, state = await check_file(file)
    assert (found.domain, state.events, state.sums.value) == (codec.domain, 11, last["sum"])


async def test_an_empty_log_can_be_exported_and_imported(
    client: Client, store: EventStore, other: Client, codec: Codec, tmp_path: Path
) -> None:
    assert (await exported(client, codec, tmp_path / "empty.gz")).events == 0
    assert (await imported(other, codec, tmp_path / "empty.gz")).events == 0
    assert await last_position(other, codec) == 0


async def test_an_export_ends_where_the_log_ended_when_it_began(
    client: Client, store: EventStore, codec: Codec, tmp_path: Path
) -> None:
    await fill(client, store, codec, more=9)
    begun, ended = asyncio.Event(), asyncio.Event()

    async def append() -> None:
        while not ended.is_set():
            await store.append("account", "busy", [Deposited()] * 20)
            begun.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(append())
        await begun.wait()
        done = await exported(client, codec, tmp_path / "log.gz")
        await store.append("account", "after", Opened())
        ended.set()
    found = events(tmp_path / "log.gz")
    assert [event["position"] for event in found] == list(range(1, done.position + 1))
    assert done.position < await last_position(client, codec)
    assert "Nats-Batch-Commit" in dict(found[-1]["headers"]), "the last batch is whole"


async def test_an_export_to_a_pipe_is_the_same(
    client: Client, codec: Codec, file: Path, tmp_path: Path
) -> None:
    pipe = io.BytesIO()
    await export_to(client, codec.subjects, pipe)
    assert lines(pipe.getvalue())[1:] == lines(file)[1:]


# Interrupted exports


class Interrupted(Exception):
    """Interrupts an export or an import."""


def after(count: int) -> Callable[..., None]:
    """A progress callback that interrupts at the given number of events."""

    def progress(*seen: Any) -> None:
        if seen[-2] >= count and seen[0] not in ("checking", "comparing"):
            raise Interrupted

    return progress


@pytest.fixture
async def large(client: Client, store: EventStore, codec: Codec) -> int:
    """A log of 335 events."""
    await fill(client, store, codec, more=9)
    return await last_position(client, codec)


@pytest.mark.parametrize("torn", [None, 0, 1, 40, -1, -500, -4_000])
async def test_a_resumed_export_equals_an_uninterrupted_one(
    client: Client, codec: Codec, large: int, tmp_path: Path, torn: int | None
) -> None:
    path, part, whole = (tmp_path / name for name in ("a.gz", "a.gz.part", "whole.gz"))
    await exported(client, codec, whole)
    with pytest.raises(Interrupted):
        await exported(client, codec, path, progress=after(250))
    assert not path.exists()
    content = part.read_bytes()
    part.write_bytes(
        content[:torn] if torn is None or torn >= 0 else content[: torn % len(content)]
    )
    with pytest.raises(TransferError, match=r"a.gz.part exists, .* --continue"):
        await exported(client, codec, path)

    done = await exported(client, codec, path, resume=True)

    assert (done.events, part.exists()) == (large, False)
    assert lines(path)[1:] == lines(whole)[1:]
    assert await exported(client, codec, path, resume=True) == done
    with pytest.raises(TransferError, match="exists already"):
        await exported(client, codec, path)
    with pytest.raises(TransferError, match=r"is of domain t.*, and this is elsewhere"):
        await exported(client, ledger("elsewhere"), path, resume=True)


async def test_an_export_is_not_continued_with_another_log(
    client: Client, store: EventStore, other: Client, codec: Codec, large: int, tmp_path: Path
) -> None:
    with pytest.raises(Interrupted):
        await exported(client, codec, tmp_path / "a.gz", progress=after(250))
    await declare_log(other, codec)
    async with EventStore(other, codec) as others:
        await others.append("account", "a1", [Deposited()] * 400)
    with pytest.raises(TransferError, match="holds another event than the file's last"):
        await exported(other, codec, tmp_path / "a.gz", resume=True)


async def test_two_exports_do_not_write_one_file(
    client: Client, codec: Codec, large: int, tmp_path: Path
) -> None:
    refused = []

    def second(*_: object) -> None:
        with pytest.raises(TransferError) as error, partial_file(tmp_path / "a.gz", resume=True):
            pass
        refused.append(str(error.value))

    await exported(client, codec, tmp_path / "a.gz", progress=second)
    assert set(refused) == {f"another process writes {tmp_path / 'a.gz.part'}"}


async def test_without_a_log_there_is_no_export(
    client: Client, codec: Codec, tmp_path: Path
) -> None:
    with pytest.raises(StreamMissing):
        await exported(client, codec, tmp_path / "a.gz")
    assert os.listdir(tmp_path) == []


# Damaged files


def _flip(text: list[bytes]) -> list[bytes]:
    return [*text[:4], text[4].replace(b'"amount', b'"bmount'), *text[5:]]


def _flip_header(text: list[bytes]) -> list[bytes]:
    return [*text[:1], text[1].replace(b'"ann"', b'"eve"'), *text[2:]]


DAMAGES: dict[str, tuple[Callable[[list[bytes]], list[bytes]], str]] = {
    "payload": (_flip, "line 5: its checksum does not match"),
    "header": (_flip_header, "line 2: its checksum does not match"),
    "line removed": (lambda text: text[:4] + text[5:], "line 5: its checksum"),
    "lines swapped": (
        lambda text: [*text[:2], text[3], text[2], *text[4:]],
        "line 3: its checksum",
    ),
    "line twice": (lambda text: [*text[:3], *text[2:]], "line 4: its checksum"),
    "end removed": (lambda text: text[:-1], "line 13: the file is truncated here"),
    "more after the end": (lambda text: [*text, text[-1]], "line 14: its checksum"),
    "garbage": (lambda text: [*text[:3], b"garbage\n", *text[3:]], "line 4: it is not a line of"),
    "first line": (lambda text: [text[0].replace(b"NIX", b"XIN"), *text[1:]], ""),
    "no first line": (lambda text: text[1:], "line 1: "),
}


@pytest.mark.parametrize("damage", [name for name in DAMAGES if DAMAGES[name][1]])
async def test_a_damaged_file_is_refused_by_line_and_nothing_is_imported(
    other: Client, codec: Codec, file: Path, damage: str
) -> None:
    change, problem = DAMAGES[damage]
    rewritten(file, change)
    with pytest.raises(DamagedFile) as error:
        await imported(other, codec, file)
    assert problem in str(error.value)
    assert f"line {error.value.line}:" in problem or damage == "no first line"
    with pytest.raises(StreamMissing):
        await stored(other, codec)


@pytest.mark.parametrize("place", [30, 300, -30])
async def test_damaged_bytes_are_found(other: Client, codec: Codec, file: Path, place: int) -> None:
    flipped(file, place)
    with pytest.raises(DamagedFile, match=r"line \d+: "):
        await imported(other, codec, file)


@pytest.mark.parametrize("length", [0, 5, 400, -1, -9])
async def test_a_truncated_file_is_refused(
    other: Client, codec: Codec, file: Path, length: int
) -> None:
    shortened(file, length)
    with pytest.raises(DamagedFile, match="truncated"):
        await imported(other, codec, file)


async def test_a_file_of_another_domain_is_refused(other: Client, file: Path) -> None:
    with pytest.raises(ImportRefused, match=r"is of domain t.*, and this is elsewhere"):
        await imported(other, ledger("elsewhere"), file)


async def test_an_id_that_occurs_twice_in_the_file_is_named(
    client: Client, other: Client, codec: Codec, file: Path, tmp_path: Path
) -> None:
    log = await stored(client, codec)
    repeated = StoredMessage(log[9].subject, 12, log[9].headers, log[9].payload)
    await written_file(tmp_path / "twice.gz", codec, [*log, repeated])
    with pytest.raises(
        TransferError, match="position 12 is refused, because its id is recorded already"
    ):
        await imported(other, codec, tmp_path / "twice.gz")
    assert await last_position(other, codec) == 11


async def test_subjects_outside_the_log_are_refused(
    client: Client, other: Client, codec: Codec, file: Path, tmp_path: Path
) -> None:
    log = await stored(client, codec)
    for subject in ("elsewhere.log.account.a1", f"{codec.domain}.cmd.account.a1", "x"):
        path = tmp_path / f"{subject}.gz"
        await written_file(path, codec, [*log, StoredMessage(subject, 12, {}, b"")])
        with pytest.raises(DamagedFile, match=f"line 13: {subject} is not a subject of the log"):
            await imported(other, codec, path)


async def test_what_is_not_an_export_file_is_reported(
    other: Client, codec: Codec, tmp_path: Path
) -> None:
    with pytest.raises(TransferError, match="cannot be read: No such file"):
        await imported(other, codec, tmp_path / "none.gz")
    with pytest.raises(DamagedFile, match="line 1: it is not an export file"):
        await imported(other, codec, ROOT / "README.md")


async def test_a_log_with_an_incomplete_batch_can_be_exported_but_not_imported(
    client: Client, store: EventStore, other: Client, codec: Codec, tmp_path: Path
) -> None:
    await plain_stream(client, codec)
    await fill(client, store, codec)
    await client.api(f"STREAM.MSG.DELETE.{codec.subjects.log_stream}", {"seq": 4})
    assert (await exported(client, codec, tmp_path / "a.gz")).events == 10
    with pytest.raises(DamagedFile, match=r"line 5: position 5: batch .* breaks off"):
        await imported(other, codec, tmp_path / "a.gz")


# Logs that are not empty, interrupted imports, and others who write


async def test_a_log_that_is_not_empty_is_refused_and_unchanged(
    client: Client, codec: Codec, file: Path, store: EventStore
) -> None:
    before = await stored(client, codec)
    with pytest.raises(ImportRefused, match=r"is not empty: it has 11 events.*--continue"):
        await imported(client, codec, file)
    assert await stored(client, codec) == before
    done = await imported(client, codec, file, resume=True)
    assert (done.events, done.before) == (11, 11)
    await store.append("account", "a9", Opened())
    with pytest.raises(ImportRefused, match=r"position 12 of .* differs from the file"):
        await imported(client, codec, file, resume=True)
    await store.append("account", "a9", Deposited())


async def test_an_import_resumes_after_the_recorded_events_if_they_are_the_same(
    client: Client, store: EventStore, other: Client, codec: Codec, file: Path, tmp_path: Path
) -> None:
    await imported(other, codec, file)
    await store.append("account", "a1", [Deposited()] * 3)
    await exported(client, codec, tmp_path / "longer.gz")
    done = await imported(other, codec, tmp_path / "longer.gz", resume=True)
    assert (done.events, done.before) == (14, 11)
    assert await without_expected(other, codec) == await without_expected(client, codec)


async def test_an_interrupted_import_locks_out_others_until_it_is_complete(
    client: Client, other: Client, codec: Codec, large: int, tmp_path: Path
) -> None:
    path = tmp_path / "a.gz"
    await exported(client, codec, path)
    with pytest.raises(Interrupted):
        await imported(other, codec, path, progress=after(150))
    assert 150 <= await last_position(other, codec) < large

    async with EventStore(other, codec, append_timeout=0.2) as store:
        with pytest.raises(NoResponders):
            await other.request(codec.subjects.log("account", "a1"), b"{}")
        with pytest.raises(StreamDrift, match="subjects is"):
            await declare_log(other, codec)
        with pytest.raises(ImportRefused, match="holds an incomplete import"):
            await imported(other, codec, path)
        assert (await findings(other, codec))[-1].kind == "unfinished_import"
        done = await imported(other, codec, path, resume=True)
        assert done.events == large
        assert 150 <= done.before < large
        await declare_log(other, codec)
        assert "unfinished_import" not in {each.kind for each in await findings(other, codec)}
        assert await without_expected(other, codec) == await without_expected(client, codec)
        await store.append("account", "a1", Deposited())


async def test_an_interrupted_import_is_not_resumed_with_another_file(
    client: Client, store: EventStore, other: Client, codec: Codec, large: int, tmp_path: Path
) -> None:
    await exported(client, codec, tmp_path / "a.gz")
    with pytest.raises(Interrupted):
        await imported(other, codec, tmp_path / "a.gz", progress=after(150))
    await client.api(f"STREAM.DELETE.{codec.subjects.log_stream}")
    await declare_log(client, codec)
    await fill(client, store, codec, more=9)
    await exported(client, codec, tmp_path / "b.gz")
    with pytest.raises(ImportRefused, match="position 1 of"):
        await imported(other, codec, tmp_path / "b.gz", resume=True)
    assert (await imported(other, codec, tmp_path / "a.gz", resume=True)).events == large


async def test_of_two_concurrent_imports_one_ends_and_the_log_is_correct(
    client: Client, other: Client, codec: Codec, large: int, tmp_path: Path
) -> None:
    path = tmp_path / "a.gz"
    await exported(client, codec, path)
    ends = await asyncio.gather(
        *(imported(other, codec, path) for _ in range(2)), return_exceptions=True
    )
    refused = [end for end in ends if isinstance(end, ImportRefused)]
    assert len(refused) >= 1
    if len(refused) == 2:  # each was shut out by the other, or found its first events
        await imported(other, codec, path, resume=True)
    assert await without_expected(other, codec) == await without_expected(client, codec)


SHUT_OUT = r"another import into .* has taken over; this one has ended"


async def test_resuming_an_import_locks_out_the_previous_one(
    client: Client, other: Client, codec: Codec, large: int, tmp_path: Path
) -> None:
    path = tmp_path / "a.gz"
    await exported(client, codec, path)
    with pytest.raises(Interrupted):
        await imported(other, codec, path, progress=after(150))
    stream = codec.subjects.log_stream
    subjects = (await other.api(f"STREAM.INFO.{stream}"))["config"]["subjects"]
    secret = subjects[0].removesuffix("*.*")
    await imported(other, codec, path, resume=True)
    with pytest.raises(NoResponders):
        await other.request(f"{secret}account.a1", b"{}")

    fence = Fence(other, codec.subjects, StreamSettings())
    assert await fence.take() == large
    await Fence(other, codec.subjects, StreamSettings()).take()
    for ask in (fence.last, fence.open):
        with pytest.raises(ImportRefused, match=SHUT_OUT):
            await ask()
    async with Sender(other, fence, large) as late:
        await late.put(SendUnit([late_event(codec)], large + 1, 100))
        with pytest.raises(ImportRefused, match=SHUT_OUT):
            await late.finish()
    assert await last_position(other, codec) == large


def late_event(codec: Codec) -> EventLine:
    headers = {"X-Event-Type": "Opened"}
    return EventLine(position=1, subject=codec.subjects.log("account", "z"), headers=headers)


async def test_an_import_survives_broken_connections(
    client: Client,
    other_server: EmbeddedServer,
    other: Client,
    codec: Codec,
    large: int,
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.gz"
    await exported(client, codec, path)
    async with TcpProxy(other_server) as proxy:
        cuts = 0

        def cut(what: str, done: int, _: int) -> None:
            nonlocal cuts
            if what == "importing" and done // 60 > cuts:
                cuts = done // 60
                proxy.cut()

        async with connect(settings_for(proxy.url, codec.domain)) as shaky:
            done = await imported(shaky, codec, path, progress=cut)
    assert done.events == large
    assert cuts >= 3
    assert await without_expected(other, codec) == await without_expected(client, codec)


async def test_a_lost_acknowledgement_repeats_nothing(
    client: Client,
    other_server: EmbeddedServer,
    other: Client,
    codec: Codec,
    large: int,
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.gz"
    await exported(client, codec, path)
    async with TcpProxy(other_server) as proxy:
        lost = proxy.cut_after(b'"seq":', "to_client", forward=False)
        async with connect(settings_for(proxy.url, codec.domain)) as shaky:
            done = await imported(shaky, codec, path)
    assert lost.is_set()
    assert done.events == large
    assert await without_expected(other, codec) == await without_expected(client, codec)


async def test_an_event_too_large_for_the_server_is_named_before_anything_is_imported(
    client: Client, store: EventStore, codec: Codec, start_server: StartServer, tmp_path: Path
) -> None:
    await store.append("account", "a1", [Opened(), Deposited(note="x" * 100_000)])
    await exported(client, codec, tmp_path / "a.gz")
    small = await start_server(max_payload=65_536)
    async with connect(settings_for(small.url, codec.domain)) as narrow:
        with pytest.raises(EventTooLarge, match="Deposited"):
            await imported(narrow, codec, tmp_path / "a.gz")
        with pytest.raises(StreamMissing):
            await stored(narrow, codec)


@pytest.fixture
async def plain(client: Client, codec: Codec, store: EventStore) -> Log:
    """A log of the store's events, without the foreign messages of `fill`."""
    for amount in range(6):
        await store.append("account", f"a{amount % 2}", Deposited(amount=amount))
    return await stored(client, codec)


FORGERIES: dict[str, tuple[Tamper, int, str]] = {
    "changed": (changed(3, b'{"amount":9}'), 4, "it was changed"),
    "no envelope": (
        lambda log: [*log[:3], msgspec.structs.replace(log[3], headers={}), *log[4:]],
        4,
        "it has no envelope",
    ),
    "malformed": (changed(3, X_Timestamp="noon"), 4, "X-Timestamp is 'noon'"),
    "removed": (ordered(0, 2, 3, 4, 5), 4, "version 1 was expected"),
    "twice": (ordered(0, 1, 2, 3, 4, 5, 3), 7, "version 2 comes after version 3"),
    "elsewhere": (moved(3, "a9", 3), 4, "it is an event of a1"),
}


@pytest.mark.parametrize("way", FORGERIES)
async def test_a_file_with_foreign_or_changed_messages_is_refused_before_anything_is_imported(
    client: Client, codec: Codec, plain: Log, tmp_path: Path, start_server: StartServer, way: str
) -> None:
    tamper, position, problem = FORGERIES[way]
    path = tmp_path / "log.gz"
    tampered = [
        msgspec.structs.replace(message, sequence=number)
        for number, message in enumerate(tamper(plain), start=1)
    ]
    if way == "removed":  # positions as they were
        tampered = [plain[0], *plain[2:]]
    await written_file(path, codec, tampered)
    server = await start_server()
    async with connect(settings_for(server.url, codec.domain)) as other:
        with pytest.raises(DamagedFile, match=f"position {position} .*{problem}") as damaged:
            await imported(other, codec, path, foreign=False)
        assert (
            damaged.value.line
            == tampered.index(next(each for each in tampered if each.sequence == position)) + 2
        )
        with pytest.raises(JetStreamError):
            await last_position(other, codec)
        with pytest.raises(TransferError, match=f"position {position} cannot be copied: .*"):
            await copy(path, tmp_path / "copy.gz", lambda event: event)

        if way != "twice":  # an id may not stand twice, whoever wrote it
            assert (await imported(other, codec, path)).events == len(tampered)
            assert await findings(other, codec)


UNSENDABLE = {
    "Nats-Rollup": "all",
    "Nats-TTL": "1s",
    "Nats-Schedule": "@every 1s",
    "Nats-Incr": "+1",
    "Nats-Trace-Only": "true",
    "Nats-Required-Api-Level": "99",
    "Nats-Batch-Id": "x" * 65,
    "Nats-Batch-Commit": "eob",
    "X-Break": "a\r\nNats-Rollup: all",
    "X-Return": "b\rc",
    "X-Spaces": " a ",
    "X\x7f": "1",
    "a b": "1",
    "a:b": "1",
    "Ö": "1",
    "": "1",
    "X-Long": "x" * 66_000,
}


@pytest.mark.parametrize("name", UNSENDABLE)
async def test_headers_that_cannot_be_sent_are_found_before_anything_is_imported(
    client: Client, codec: Codec, other: Client, plain: Log, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "log.gz"
    headers = {**plain[3].headers, "X-Note": "é", name: UNSENDABLE[name]}
    odd = [*plain[:3], msgspec.structs.replace(plain[3], headers=headers), *plain[4:]]
    await written_file(path, codec, odd)

    with pytest.raises(DamagedFile, match=r"position 4 .* cannot be sent") as damaged:
        await imported(other, codec, path, foreign=False)
    assert damaged.value.line == 5
    assert repr(name) in str(damaged.value)
    with pytest.raises(JetStreamError):
        await last_position(other, codec)

    assert (await imported(other, codec, path)).stripped == 1
    found = await without_expected(other, codec)
    assert found[3].headers == {**(await without_expected(client, codec))[3].headers, "X-Note": "é"}
    assert [each.payload for each in found] == [each.payload for each in plain]
    again = await imported(other, codec, path, resume=True)
    assert (again.before, again.stripped) == (6, 1)


async def test_headers_that_are_too_large_together_are_left_out(
    codec: Codec, other: Client, plain: Log, tmp_path: Path
) -> None:
    headers = {**plain[3].headers, **{f"X-{number}": "y" * 20 for number in range(3_000)}}
    odd = [*plain[:3], msgspec.structs.replace(plain[3], headers=headers), *plain[4:]]
    await written_file(tmp_path / "log.gz", codec, odd)

    with pytest.raises(DamagedFile, match=r"position 4 .* cannot be sent"):
        await imported(other, codec, tmp_path / "log.gz", foreign=False)
    assert (await imported(other, codec, tmp_path / "log.gz")).stripped == 1
    assert len(await stored(other, codec)) == len(plain)


async def test_a_copy_leaves_out_foreign_messages_if_requested(
    client: Client, codec: Codec, store: EventStore, tmp_path: Path, start_server: StartServer
) -> None:
    await fill(client, store, codec)
    before = [event.data for event in await read_all(store)]
    file = tmp_path / "log.gz"
    exports = await exported(client, codec, file)
    copied = await copy(
        file, tmp_path / "copy.gz", lambda event: event, name="clean", without_foreign=True
    )
    assert (copied.before, copied.after, copied.foreign) == (exports.events - 2, len(before), 2)
    server = await start_server()
    async with connect(settings_for(server.url, codec.domain)) as other:
        await imported(other, codec, tmp_path / "copy.gz", foreign=False)
        assert await findings(other, codec) == []
        async with EventStore(other, codec) as restored:
            assert [event.data for event in await read_all(restored)] == before
            # What was imported is built upon without reading it all again.
            assert (await restored.append("account", "a1", Deposited())).version == 7


async def test_a_copy_does_not_drop_an_event_that_others_were_built_upon(
    client: Client, codec: Codec, plain: Log, tmp_path: Path
) -> None:
    path = tmp_path / "log.gz"
    await written_file(path, codec, changed(3, b'{"amount":9}')(plain))
    with pytest.raises(TransferError, match="position 6 goes back to position 4"):
        await copy(path, tmp_path / "c.gz", lambda event: event, name="x", without_foreign=True)
    assert not (tmp_path / "c.gz").exists()


def bomb(path: Path, codec: Codec, text: Iterable[bytes]) -> None:
    """A file whose second member is small, and expands."""
    first = FirstLine(
        domain=codec.domain,
        stream=codec.subjects.log_stream,
        time="2026-01-01T00:00:00.000000Z",
        first=1,
        last=1,
    )
    with path.open("wb") as file:
        file.write(gzip.compress(FileSums().seal(first)))
        with gzip.open(file, "wb") as part:
            for piece in text:
                part.write(piece)


BOMBS: dict[str, tuple[Callable[[], Iterable[bytes]], str]] = {
    "a line without an end": (lambda: itertools.repeat(b" " * 2**20, 200), "the line is longer"),
    "a line with an end": (
        lambda: [b'{"line":"event","text":"', *itertools.repeat(b"x" * 2**20, 200), b'"}\n'],
        "the line is longer",
    ),
    "empty lines": (lambda: itertools.repeat(b"\n" * 2**20, 50), "it is not a line of an export"),
    "nested too deep": (lambda: [b'{"x":' + b"[" * 10**6 + b"]" * 10**6 + b"}\n"], "not a line of"),
}


@pytest.mark.parametrize("way", BOMBS)
async def test_a_small_file_that_would_expand_is_refused_in_little_memory(
    client: Client, codec: Codec, tmp_path: Path, way: str
) -> None:
    text, problem = BOMBS[way]
    bomb(path := tmp_path / "bomb.gz", codec, text())
    assert path.stat().st_size < 1_000_000
    tracemalloc.start()
    try:
        with pytest.raises(DamagedFile, match=f"line 2: .*{problem}"):
            await imported(client, codec, path)
        with pytest.raises(DamagedFile, match=f"line 2: .*{problem}"):
            await copy(path, tmp_path / "copy.gz", lambda event: event)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 120_000_000, f"{peak:,} bytes"


async def test_a_batch_without_an_end_is_refused_in_little_memory(
    client: Client, codec: Codec, plain: Log, tmp_path: Path
) -> None:
    head = {"Nats-Batch-Id": "b"}
    many = [
        msgspec.structs.replace(
            plain[0], sequence=number, headers=head | {"Nats-Batch-Sequence": str(number)}
        )
        for number in range(1, 1_500)
    ]
    await written_file(path := tmp_path / "log.gz", codec, many)
    with pytest.raises(DamagedFile, match="position 1001: a batch has more than 1,000 events"):
        await imported(client, codec, path)
