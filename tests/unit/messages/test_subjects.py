from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore.errors import InvalidId, InvalidSubject
from eventstore.messages.subjects import Kind, Subject, Subjects, check_aggregate_id, check_name

NAMES = st.from_regex(r"[a-z][a-z0-9_-]{0,63}", fullmatch=True)
IDS = st.text(string.ascii_letters + string.digits + "_-", min_size=1, max_size=128)
KINDS = st.sampled_from(["cmd", "event", "query"])
BAD_NAMES = ["", "A", "1a", "_a", "-a", "a.b", "a b", "a*", "a>", "a\n", "ä", "a" * 65]
BAD_IDS = ["", "a.b", "a b", " a", "a\n", "*", ">", "ä", "a/b", "a\0", "٣", "a" * 129]


@given(NAMES)
def test_a_name_is_returned(name: str) -> None:
    assert check_name("domain", name) == name


@pytest.mark.parametrize("name", BAD_NAMES)
def test_what_cannot_be_a_name_is_refused_by_name(name: str) -> None:
    with pytest.raises(InvalidSubject) as error:
        check_name("action of X", name)
    assert str(error.value).startswith(f"action of X {name!r} is not allowed")


@given(IDS)
def test_an_aggregate_id_is_returned(value: str) -> None:
    assert check_aggregate_id(value) == value


@pytest.mark.parametrize("value", BAD_IDS)
def test_what_cannot_be_an_id_is_refused_by_name(value: str) -> None:
    with pytest.raises(InvalidId) as error:
        check_aggregate_id(value)
    assert repr(value) in str(error.value)


def test_a_huge_id_is_not_repeated_in_full() -> None:
    with pytest.raises(InvalidId) as error:
        check_aggregate_id("a" * 1_000_000)
    assert len(str(error.value)) < 300


@given(domain=NAMES, kind=KINDS, aggregate=NAMES, action=NAMES)
def test_a_subject_is_built_and_taken_apart(
    domain: str, kind: Kind, aggregate: str, action: str
) -> None:
    subject = Subject(domain, kind, aggregate, action)

    assert Subject.parse(str(subject)) == subject


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is not {domain}.{kind}.{aggregate}.{action}"),
        ("nix.cmd.flake", "is not {domain}.{kind}.{aggregate}.{action}"),
        ("nix.cmd.flake.create.now", "is not {domain}.{kind}.{aggregate}.{action}"),
        ("nix.log.flake.create", "has kind 'log'; known are cmd, event, query"),
        ("Nix.cmd.flake.create", "domain 'Nix'"),
        ("nix.cmd.*.create", "aggregate '*'"),
        ("nix.cmd.flake.>", "action '>'"),
        ("nix.cmd..create", "aggregate ''"),
        ("nix.cmd.flake.create\n", "action 'create\\n'"),
    ],
)
def test_what_is_no_subject_is_refused(text: str, problem: str) -> None:
    with pytest.raises(InvalidSubject) as error:
        Subject.parse(text)
    assert problem in str(error.value)


def test_the_subjects_and_streams_of_a_domain() -> None:
    subjects = Subjects("nix")

    assert subjects.command("flake", "create") == "nix.cmd.flake.create"
    assert subjects.event("flake", "created") == "nix.event.flake.created"
    assert subjects.query("flake", "get") == "nix.query.flake.get"
    assert subjects.log("flake", "f1") == "nix.log.flake.f1"
    assert (subjects.all_log, subjects.all_parked) == ("nix.log.*.*", "nix.parked.>")
    assert subjects.log_stream == "NIX_LOG"
    assert subjects.command_stream == "NIX_CMD"
    assert subjects.event_stream == "NIX_EVENT"
    assert subjects.parked_stream == "NIX_PARKED"
    assert subjects.snapshot_bucket == "NIX_SNAPSHOTS"
    assert subjects.outcome_bucket == "NIX_OUTCOMES"
    assert subjects.config_bucket == "NIX_CONFIG"


def test_filters_are_narrowed_as_given() -> None:
    subjects = Subjects("nix")

    assert subjects.filter("cmd") == "nix.cmd.*.*"
    assert subjects.filter("event", "flake") == "nix.event.flake.*"
    assert subjects.filter("event", action="created") == "nix.event.*.created"


@pytest.mark.parametrize("domain", BAD_NAMES)
def test_a_domain_needs_a_legal_name(domain: str) -> None:
    with pytest.raises(InvalidSubject, match="domain"):
        Subjects(domain)


@given(domain=NAMES, aggregate=NAMES, aggregate_id=IDS)
def test_a_subject_of_the_log_is_built_and_taken_apart(
    domain: str, aggregate: str, aggregate_id: str
) -> None:
    subjects = Subjects(domain)

    assert subjects.parse_log(subjects.log(aggregate, aggregate_id)) == (aggregate, aggregate_id)


def test_the_log_refuses_an_illegal_id() -> None:
    with pytest.raises(InvalidId, match=r"'f\.1'"):
        Subjects("nix").log("flake", "f.1")


@pytest.mark.parametrize(
    "subject",
    [
        "",
        "flake.f1",
        "nix.log.flake",
        "nix.log.flake.",
        "nix.log..f1",
        "nix.log.flake.f1.x",
        "lab.log.flake.f1",
        "nix.cmd.flake.create",
        "nix.log",
    ],
)
def test_what_is_not_of_the_log_is_refused(subject: str) -> None:
    with pytest.raises(InvalidSubject) as error:
        Subjects("nix").parse_log(subject)
    assert repr(subject) in str(error.value)
