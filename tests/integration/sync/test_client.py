"""The application client's blocking facade, and a whole service behind it."""

from __future__ import annotations

from inspect import getmembers, isasyncgenfunction, iscoroutinefunction
from pathlib import Path

import pytest

from eventstore import EventStore
from eventstore.application.client import Requests
from eventstore.config import ReadModelSettings, Settings
from eventstore.errors import BlockingCallRefused, QueryNotFound
from eventstore.sync import SyncApplicationClient, SyncEventStore
from examples import bank


@pytest.fixture
def own(settings: Settings, tmp_path: Path) -> Settings:
    rows = ReadModelSettings(database=str(tmp_path / "rows.sqlite"))
    return Settings(nats=settings.nats, read_model=rows)


def test_a_program_without_an_event_loop_uses_an_application(own: Settings) -> None:
    with (
        SyncApplicationClient(bank.app.running(own)) as service,
        SyncApplicationClient(bank.app.client(own)) as client,
    ):
        outcome = client.execute(bank.Deposit(amount=50), "ann")
        assert outcome.status == "success"
        sent = client.send(bank.Withdraw(amount=20), "ann")
        assert client.execute(bank.Withdraw(amount=80), "ann").status == "rejected"
        scheduled = client.schedule("gift", bank.Deposit(amount=5), "ann", after=3_600)
        assert scheduled.name == "gift"
        assert (client.cancel("gift"), service.cancel("gift")) == (True, False)
        view = client.ask(bank.GetAccount(id="ann"), wait_for=outcome.position)
        assert view.balance in (30, 50)
        with pytest.raises(QueryNotFound):
            client.ask(bank.GetAccount(id="bob"))
        assert client.load("account", "ann") == service.load("account", "ann")
        events = list(client.store.read("account", "ann"))
        assert [event.type for event in events] == ["Deposited", "Withdrawn"]
        assert events[1].causation_id == sent.command_id
        assert list(service.store.read_all(backwards=True)) == events[::-1]
        client.store.append("account", "bob", bank.Deposited(amount=1))
        assert client.load("account", "bob") == bank.Account(1)
    with pytest.raises(BlockingCallRefused, match="the client is not open"):
        client.store.log_end()


def test_it_has_every_method_of_a_client() -> None:
    methods = {name for name, each in vars(Requests).items() if iscoroutinefunction(each)}
    assert methods <= set(vars(SyncApplicationClient))


def test_its_store_has_every_method_but_those_for_other_packages() -> None:
    methods = {name: each for name, each in getmembers(EventStore) if not name.startswith("_")}
    calls = {
        name
        for name, each in methods.items()
        if iscoroutinefunction(each) or isasyncgenfunction(each)
    }
    without = {"append_prepared", "read_stored", "read_whole"}
    without |= {"check_seen", "mark_at", "verify_history"}
    assert calls - set(dir(SyncEventStore)) == without
