"""Erasure: copies of a forgotten subject's data leave the streams and the server's files."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import select

from eventstore.application import WriteSide, running
from eventstore.client.client import Client, connect
from eventstore.commands import CommandClient, Outcome, Outcomes
from eventstore.config import Settings
from eventstore.decider.domain import Domain
from eventstore.jetstream.publish import publish_acked
from eventstore.jetstream.topology import declare, topology
from eventstore.messages.encryption import PERSONAL
from eventstore.messages.envelope import new_id
from eventstore.messages.headers import Header
from eventstore.messages.personal import ref_of
from eventstore.parking.erasure import ErasureReport
from eventstore.parking.messages import ParkedMessages
from eventstore.parking.record import ParkedRecord, store_record
from eventstore.projections.audit import CommandCollector
from eventstore.projections.audit.models import audit_command
from eventstore.projections.database.database import Database
from eventstore.server.embedded import EmbeddedServer
from eventstore.store.keyring import Keyring
from eventstore.timers import Schedule, Timers
from eventstore.timers.timer import scheduled
from eventstore.timers.timers import set_timer
from tests.conftest import started_server
from tests.integration.command_line import CommandLine, ProcessResult
from tests.integration.customers import CustomerRegistered, Register, shop

EMAIL = "ann@example.org"


@pytest.fixture(scope="module")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """A server of these tests' own, which has few files to search."""
    with started_server(tmp_path_factory.mktemp("nats")) as server:
        yield server


class DomainWithParked:
    """A domain in which something is parked, and outcomes are kept."""

    def __init__(self, client: Client, domain: Domain) -> None:
        self.client = client
        self.subjects = domain.codec.subjects
        self.parked = ParkedMessages(client, self.subjects)
        self.outcomes = Outcomes(client, self.subjects)

    async def park(
        self,
        payload: object,
        *,
        aggregate_id: str | None = "o1",
        kind: str = "cmd",
        headers: dict[str, str] | None = None,
        command_id: str | None = None,
    ) -> int:
        record = ParkedRecord(
            subject=f"{self.subjects.domain}.{kind}.order.place",
            headers=headers or {},
            payload=payload if isinstance(payload, bytes) else msgspec.json.encode(payload),
            code="handler_failed",
            reason=f"cannot be done for {EMAIL}",
            stream="S",
            sequence=1,
            stored_at_ns=0,
            delivered=1,
            aggregate="order",
            aggregate_id=aggregate_id,
            command_id=command_id,
        )
        subject = f"{self.subjects.domain}.parked.{kind}.order.place"
        return await store_record(self.client, subject, record, new_id())

    async def keep(self, text: str, *, status: str = "rejected", **about: str) -> str:
        own = {"command_id": new_id(), "aggregate": "order", "aggregate_id": "o1", **about}
        outcome = Outcome(status=status, message=text, code="no", **own)  # type: ignore[arg-type]
        await self.outcomes.put(outcome, about="X-Actor: somebody\r\n")
        return own["command_id"]

    async def outcome_text(self, command_id: str) -> str:
        outcome = await self.outcomes.get(command_id)
        assert outcome is not None
        return f"{outcome.status} {outcome.code} {outcome.message}"

    async def left(self) -> list[int]:
        return [each.sequence async for each in self.parked.read()]

    async def forget(self, subject: str = "ann") -> ErasureReport:
        reported: list[ErasureReport] = []
        keyring = Keyring(self.client, self.subjects)
        await keyring.forget(subject, reported.append)
        return reported[0]


@pytest.fixture
async def client(settings: Settings, domain_name: str) -> AsyncIterator[Client]:
    async with connect(settings) as client:
        await declare(client, topology(shop.renamed(domain_name).codec.subjects, settings.streams))
        yield client


@pytest.fixture
async def parked_domain(client: Client, domain_name: str) -> DomainWithParked:
    return DomainWithParked(client, shop.renamed(domain_name))


def in_files(server: EmbeddedServer, secret: str) -> list[Path]:
    """The files in which something stands, as it is or in base64 at any offset."""
    plain = secret.encode()
    forms = [plain, *(base64.b64encode(b"x" * n + plain)[n + 1 : -4] for n in range(3))]
    return [
        path
        for path in server.data_directory.rglob("*")
        if path.is_file() and any(form in path.read_bytes() for form in forms)
    ]


NAMED = {
    "in a field": {"payload": {"customer_id": "ann", "secret": 1}},
    "deep inside": {"payload": {"all": [{"of": {"them": "ann"}}]}},
    "as a name": {"payload": {"by": {"ann": 1}}},
    "as its aggregate": {"payload": {}, "aggregate_id": "ann"},
    "as its aggregate, though nobody can read it": {"payload": b"\xff", "aggregate_id": "ann"},
    "by its header": {"payload": b"{", "headers": {Header.AGGREGATE_ID: "ann"}},
    "by the key of its data": {
        "payload": {},
        "kind": "event",
        "headers": {PERSONAL: f"email={ref_of('ann')}"},
    },
}


@pytest.mark.parametrize("named", NAMED)
async def test_parked_messages_that_name_the_subject_are_erased(
    parked_domain: DomainWithParked, named: str
) -> None:
    own = await parked_domain.park(**NAMED[named])  # type: ignore[arg-type]
    other = await parked_domain.park({"customer_id": "anna", "note": "ann and ben"})
    erased = await parked_domain.forget()
    assert erased == ErasureReport(parked=(own,))
    assert await parked_domain.left() == [other]
    assert await parked_domain.forget() == ErasureReport()


async def test_its_bytes_are_gone_from_the_servers_files(
    parked_domain: DomainWithParked, nats_server: EmbeddedServer
) -> None:
    secret = new_id()
    sequence = await parked_domain.park({"customer_id": "ann", "address": secret})
    command_id = await parked_domain.keep(f"nobody lives at {secret}", aggregate_id="ann")
    assert len(in_files(nats_server, secret)) == 2
    erased = await parked_domain.forget()
    assert (erased.parked, erased.outcomes) == ((sequence,), (command_id,))
    assert in_files(nats_server, secret) == []


async def test_a_record_of_several_parts_is_erased_with_all_of_them(
    parked_domain: DomainWithParked, nats_server: EmbeddedServer
) -> None:
    secret = new_id()
    text = secret + base64.b64encode(os.urandom(1_500_000)).decode()
    sequence = await parked_domain.park({"customer_id": "ann", "address": text})
    await parked_domain.park({"customer_id": "ben"})
    assert in_files(nats_server, secret)
    assert (await parked_domain.forget()).parked == (sequence,)
    assert in_files(nats_server, secret) == []
    assert len(await parked_domain.left()) == 1


async def test_unreadable_messages_are_reported_and_remain(parked_domain: DomainWithParked) -> None:
    subject = f"{parked_domain.subjects.domain}.parked.cmd.order.place"
    garbled = (await publish_acked(parked_domain.client, subject, b"{", {"X-Part": "1/1"})).seq
    orphan = (await publish_acked(parked_domain.client, subject, b"{", {"X-Part": "1/2"})).seq
    payload = await parked_domain.park(b"\xffann")
    deep = await parked_domain.park(b"[" * 100_000)
    erased = await parked_domain.forget()
    stream = parked_domain.subjects.parked_stream
    assert erased.parked == ()
    assert [each.partition(":")[0] for each in erased.unread] == [
        f"{stream} {sequence}" for sequence in (garbled, payload, deep, orphan)
    ]


async def test_without_anybody_to_report_to_it_is_logged(
    parked_domain: DomainWithParked, caplog: pytest.LogCaptureFixture
) -> None:
    sequence = await parked_domain.park(b"\xff")
    await Keyring(parked_domain.client, parked_domain.subjects).forget("ann")
    assert (
        f"may remain in an unreadable message: {parked_domain.subjects.parked_stream} {sequence}: "
        in caplog.text
    )


async def test_an_outcome_loses_its_text_and_nothing_else(parked_domain: DomainWithParked) -> None:
    own = await parked_domain.keep(f"{EMAIL} is taken", aggregate_id="ann")
    names = await parked_domain.keep("no place for ann, sorry")
    of_parked = await parked_domain.keep(f"{EMAIL} is odd", status="error")
    await parked_domain.park({"customer_id": "ann"}, command_id=of_parked)
    others = [
        await parked_domain.keep("no place for anna"),
        await parked_domain.keep("CustomerRegistered", status="success", aggregate_id="ann"),
    ]
    before = [await parked_domain.outcome_text(each) for each in others]
    erased = await parked_domain.forget()
    assert erased.outcomes == (own, names, of_parked)
    assert erased.undeleted == ()
    assert [await parked_domain.outcome_text(each) for each in (own, names, of_parked)] == [
        "rejected no [forgotten]",
        "rejected no [forgotten]",
        "error no [forgotten]",
    ]
    assert [await parked_domain.outcome_text(each) for each in others] == before
    assert (await parked_domain.forget()).outcomes == ()


async def test_the_audit_index_loses_the_text_too(
    parked_domain: DomainWithParked, sqlite_read_model: Path
) -> None:
    await parked_domain.keep(f"{EMAIL} is taken", aggregate_id="ann")
    async with Database(sqlite_read_model) as database:
        collector = CommandCollector(parked_domain.client, parked_domain.subjects, database)
        async with running(collector), asyncio.timeout(20):
            await collector.wait()
            assert await texts_in(database) == [f"{EMAIL} is taken"]
            await parked_domain.forget()
            await collector.wait()
            assert await texts_in(database) == ["[forgotten]"]


async def texts_in(database: Database) -> list[str]:
    async with database.engine.connect() as connection:
        return list(await connection.scalars(select(audit_command.c.message)))


async def test_a_bucket_that_allows_no_deletion_is_named(
    client: Client, domain_name: str, nats_server: EmbeddedServer
) -> None:
    domain = shop.renamed(f"{domain_name}o")
    subjects = domain.codec.subjects
    specs = topology(subjects, Settings().streams)
    (spec,) = (each for each in specs if each.name == f"KV_{subjects.outcome_bucket}")
    await client.api(f"STREAM.CREATE.{spec.name}", {**spec.request, "deny_delete": True})
    await declare(client, specs)  # what an earlier release has made is no drift
    parked_domain = DomainWithParked(client, domain)
    own = await parked_domain.keep(f"{EMAIL} is taken", aggregate_id="ann")
    erased = await parked_domain.forget()
    assert (erased.outcomes, erased.undeleted) == ((own,), (own,))
    assert await parked_domain.outcome_text(own) == "rejected no [forgotten]"


async def test_a_resent_rejected_command_has_its_first_outcome(
    settings: Settings, domain_name: str
) -> None:
    domain = shop.renamed(domain_name)
    async with AsyncExitStack() as stack:
        app = await stack.enter_async_context(WriteSide(domain, settings))
        command_id = new_id()
        await app.store.append("customer", "ann", CustomerRegistered(email=EMAIL))
        await app.store.keyring.forget("ann")
        first = await app.commands.execute(Register(email=EMAIL), "ann", command_id=command_id)
        assert (first.status, first.code) == ("rejected", "subject_forgotten")
        await app.store.keyring.forget("ann")
        again = await app.commands.execute(Register(email=EMAIL), "ann", command_id=command_id)
        assert again == msgspec.structs.replace(first, message="[forgotten]")


async def test_discarded_or_retried_nothing_stays_in_the_servers_files(
    parked_domain: DomainWithParked, nats_server: EmbeddedServer
) -> None:
    secret = new_id()
    sequence = await parked_domain.park({"address": secret})
    assert in_files(nats_server, secret)
    await parked_domain.parked.discard(sequence)
    assert in_files(nats_server, secret) == []


async def test_waiting_timers_that_name_the_subject_are_reported_and_remain(
    parked_domain: DomainWithParked, domain_name: str
) -> None:
    client, subjects = parked_domain.client, parked_domain.subjects
    schedule = Schedule.recurring("@yearly").headers
    for name, own_id, data in (
        ("aggregate", "ann", b"{}"),
        ("payload", "o1", b'{"to": ["ann"]}'),
        ("unreadable", "ann", b"\xff"),
        ("other", "bob", b'{"to": "anna"}'),
    ):
        headers = {Header.AGGREGATE_ID: own_id}
        draft = scheduled(subjects, name, "customer", "register", schedule, headers, data, "timer")
        await set_timer(client, draft, stream=subjects.timer_stream)
    assert (await parked_domain.forget()).timers == ("aggregate", "payload", "unreadable")
    assert (await Timers(client, subjects).counts()).waiting == 4


# The command line


async def test_it_lists_what_was_erased_and_what_needs_inspection(
    parked_domain: DomainWithParked,
    settings: Settings,
    tmp_path: Path,
    domain_name: str,
    nats_server: EmbeddedServer,
) -> None:
    (tmp_path / "own.toml").write_text(f'[nats]\nsubject_prefix = "{domain_name}"\n')
    cli = CommandLine(tmp_path, EVENTSTORE_CONFIG="own.toml", NATS_URL=nats_server.url)
    sequence = await parked_domain.park({"customer_id": "ann"})
    unread = await parked_domain.park(b"\xff")
    await parked_domain.keep("ann lives elsewhere")
    async with CommandClient(parked_domain.client, shop.renamed(domain_name).codec) as commands:
        await commands.send(Register(email=EMAIL), "ben")

    first = await forget(cli)
    assert (first.status, first.err) == (0, "")
    assert first.lines[:3] == [
        f"erased: the parked messages {sequence}",
        "erased: the texts of 1 outcome",
        "These cannot be read, and may name ann: see `eventstore parked show`.",
    ]
    assert first.lines[3].startswith(f"  {parked_domain.subjects.parked_stream} {unread}: ")
    assert first.lines[4].startswith(
        f"pending in {parked_domain.subjects.command_stream}: 1 command"
    )
    again = await forget(cli)
    assert again.status == 1
    assert again.lines[0] == f"nothing was changed: {domain_name} has no personal data of ann"


async def forget(cli: CommandLine) -> ProcessResult:
    return await asyncio.to_thread(cli.call, "audit", "forget", "ann", "--yes")
