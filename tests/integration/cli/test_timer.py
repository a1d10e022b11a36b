"""`eventstore timer`."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from tests.integration.cli.operations import good
from tests.integration.command_line import CommandLine

DATA = '{"path": "./x", "description": "x"}'
CREATE = "nix.cmd.flake.create"


def set_one(service: CommandLine, name: str, own: str, *when: str) -> dict[str, object]:
    words = ("timer", "set", name, CREATE, "--id", own, "--data", DATA, "--json", *when)
    found: dict[str, object] = json.loads(good(service.call(*words))[0])
    return found


def test_timers_are_set_listed_shown_and_cancelled(service: CommandLine) -> None:
    own = "f-1"
    made = set_one(service, "later", own, "--after", "2h", "--actor", "ann")
    set_one(service, "nightly", own, "--cron", "0 3 * * *", "--time-zone", "Europe/Berlin")

    listed = [json.loads(line) for line in good(service.call("timer", "list", "--json"))]
    assert [each["name"] for each in listed] == ["later", "nightly"]
    assert listed[0]["due"] == made["at"]
    assert listed[0]["data"] == json.loads(DATA) | {"template": None}
    table = [line.split() for line in good(service.call("timer", "list"))]
    assert table[0] == ["timer", "due", "in", "command", "id"]
    assert table[1][-4:] == ["1h", "59m", "flake.create", own]
    assert table[2][:8] == ["nightly", "0", "0", "3", "*", "*", "*", "Europe/Berlin"]
    cut = service.call("timer", "list", "--limit", 1)
    assert (cut.err.strip(), "nightly" in cut.out) == ("1 more", False)
    cut = service.call("timer", "list", "--limit", 1, "--json")
    assert (cut.err.strip(), len(cut.out.splitlines())) == ("1 more", 1)

    (line,) = good(service.call("timer", "show", "later", "--json"))
    shown = json.loads(line)
    assert (shown["command_id"], shown["type"]) == (made["command_id"], "CreateFlake")
    lines = good(service.call("timer", "show", "later"))
    assert f"  flake      {own}" in lines
    assert "  actor      ann" in lines

    prompt = service.call("timer", "cancel", "later")
    assert (prompt.status, "cancel it?" in prompt.out) == (1, True)
    assert good(service.call("timer", "cancel", "later", "--yes")) == ["cancelled: later"]
    (line,) = good(service.call("timer", "cancel", "nightly", "--yes", "--json"))
    assert json.loads(line) == {"cancelled": "nightly"}
    none = service.call("timer", "list")
    assert (none.out, none.err.strip()) == ("", "no timer is waiting")


def test_a_timer_is_fired_by_hand(service: CommandLine) -> None:
    own = "f-2"
    made = set_one(service, "later", own, "--at", "2099-01-01T00:00:00Z")
    assert datetime.fromisoformat(str(made["at"])) == datetime(2099, 1, 1, tzinfo=UTC)
    assert good(service.call("timer", "fire", "later")) == ["due now: later"]
    for _ in range(200):
        status = service.call("command", "status", made["command_id"], "--json")
        if status.status == 0:
            break
    assert json.loads(status.out)["aggregate_id"] == own
    again = service.call("timer", "fire", "later")
    assert (again.status, "no timer later is waiting" in again.out + again.err) == (2, True)


def test_what_cannot_be_set_is_refused(service: CommandLine) -> None:
    for words, problem in (
        ((CREATE, "--after", "soon"), "not a delay"),
        ((CREATE, "--at", "tomorrow"), "not a time"),
        (
            (CREATE, "--at", "2099-01-01T00:00:00", "--id", "x", "--data", DATA),
            "needs a zone: wr",
        ),
        (
            (CREATE, "--at", "2020-01-01T00:00:00Z", "--id", "x", "--data", DATA, "--refuse-past"),
            "has passed",
        ),
        (("nix.event.flake.created", "--after", "1h"), "does not begin with nix.cmd."),
        ((CREATE, "--data", DATA), "needs either"),
    ):
        refused = service.call("timer", "set", "bad", *words)
        assert refused.status == 2
        text = " ".join((refused.out + refused.err).replace("│", " ").split())
        assert problem in text, text
    unknown = service.call("timer", "show", "nobody")
    assert (unknown.status, "no timer nobody is waiting" in unknown.err) == (2, True)
