"""Where the command of a timer comes from, by the headers of the server."""

from __future__ import annotations

import pytest

from eventstore.errors import InvalidTimer
from eventstore.timers.due import Firing, due_time
from eventstore.timers.schedule import check_stored_name

SOURCE = "NIX_TIMER 7 nix.due.*.* nix.cmd.{{wildcard(1)}}.{{wildcard(2)}} nix.due.flake.create x"
HEADERS = {
    "Nats-Scheduler": "nix.timer.nightly",
    "Nats-Schedule-Next": "2026-06-02T03:00:00Z",
    "Nats-Stream-Source": SOURCE,
}


def test_each_firing_has_a_key_of_its_own() -> None:
    firing = Firing.of(HEADERS, "NIX_TIMER")
    assert firing == Firing("nix.timer.nightly", 7, "2026-06-02T03:00:00Z")
    others = (
        {"Nats-Scheduler": "nix.timer.weekly"},
        {"Nats-Schedule-Next": "2026-06-03T03:00:00Z"},
        {"Nats-Stream-Source": SOURCE.replace(" 7 ", " 8 ")},
    )
    keys = {other.key for each in others if (other := Firing.of(HEADERS | each, "NIX_TIMER"))}
    assert len(keys | {firing.key}) == 4


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Nats-Scheduler": "nix.timer.nightly"},
        {"Nats-Stream-Source": SOURCE},
        HEADERS | {"Nats-Stream-Source": SOURCE.replace("NIX_TIMER", "OTHER")},
        HEADERS | {"Nats-Stream-Source": "NIX_TIMER seven"},
        HEADERS | {"Nats-Stream-Source": "NIX_TIMER"},
    ],
)
def test_a_command_without_these_headers_comes_from_no_timer(headers: dict[str, str]) -> None:
    assert Firing.of(headers, "NIX_TIMER") is None


def test_a_time_that_is_none_is_ignored() -> None:
    assert due_time({}) is None
    assert due_time({"X-Due": "soon"}) is None
    found = due_time({"X-Due": "2026-06-02T03:00:00Z"})
    assert found is not None
    assert found.hour == 3


@pytest.mark.parametrize("name", ["a", "ann:a", "billing-1:" + "x" * 256])
def test_the_names_of_other_users_timers_begin_with_the_user(name: str) -> None:
    assert check_stored_name(name) == name


@pytest.mark.parametrize("name", [":a", "ann:", "a:b:c", "Ann:a", "*", "ann:*", "a.b"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidTimer):
        check_stored_name(name)
