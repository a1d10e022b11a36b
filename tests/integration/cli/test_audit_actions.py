"""`eventstore audit actions`: what this command line has done to a service, and who did it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventstore.messages.personal import ref_of
from tests.integration.cli.operations import CREATE, good, park
from tests.integration.command_line import CommandLine


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    cli = CommandLine(tmp_path_factory.mktemp("service"), LOGNAME="ann")
    with cli.serving():
        yield cli


def test_what_was_done_is_listed_with_who_did_it(service: CommandLine) -> None:
    good(service.call("config", "set", "log_level", "warning"))
    good(service.call("config", "unset", "log_level"))
    assert service.call("timer", "cancel", "none", "--yes").status == 2
    park(service, "p-1")
    good(service.call("parked", "discard", "1", "--yes"))
    good(service.call("projection", "pause", "flakes"))
    good(service.call("projection", "resume", "flakes"))
    good(service.call("projection", "rebuild", "flakes"))
    assert service.call("audit", "forget", "somebody", "--yes").status == 1

    listed = json.loads(service.call("audit", "actions", "--json").out)
    found = [
        (each["action"], each["target"], each["status"], each["code"]) for each in listed["items"]
    ]
    assert found == [
        ("audit-forget", ref_of("somebody"), "done", None),
        ("projection-rebuild", "flakes", "done", None),
        ("projection-resume", "flakes", "done", None),
        ("projection-pause", "flakes", "done", None),
        ("parked-discard", "1", "done", None),
        ("timer-cancel", "none", "failed", "no_timer"),
        ("config-unset", "log_level", "done", None),
        ("config-set", "log_level = warning", "done", None),
    ]
    assert {(each["actor"], each["user"]) for each in listed["items"]} == {("ann", None)}

    table = service.call("audit", "actions", "--action", "timer-cancel", "--since", "1h")
    heading, line = good(table)
    assert heading.split() == ["time", "(UTC)", "by", "action", "target", "outcome"]
    assert line.split()[2:] == ["ann", "timer-cancel", "none", "failed", "(no_timer)"]
    page = service.call("audit", "actions", "--limit", "1").lines
    assert page[-1].startswith("there is more: --after ")
    none = service.call("audit", "actions", "--actor", "bob")
    assert (none.status, none.out) == (1, "nothing found\n")


def test_what_is_only_read_is_not_recorded(service: CommandLine, tmp_path: Path) -> None:
    before = service.call("audit", "actions", "--json").out
    good(service.call(*CREATE))
    for words in (("parked", "list"), ("projection", "list"), ("config", "get"), ("timer", "list")):
        assert service.call(*words).status == 0
    assert service.call("audit", "actions", "--json").out == before
