from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore.commands import Outcome
from eventstore.errors import InvalidId
from eventstore.messages.envelope import new_id


def test_an_outcome_of_our_own_error_has_its_code_and_text() -> None:
    outcome = Outcome.error(InvalidId("id is bad"), "id", "flake", "f1")
    assert (outcome.status, outcome.code, outcome.message) == ("error", "invalid_id", "id is bad")
    assert (outcome.aggregate, outcome.aggregate_id) == ("flake", "f1")


def test_an_outcome_of_any_other_error_names_its_type() -> None:
    outcome = Outcome.error(KeyError("x"), "id")
    assert (outcome.code, outcome.message) == ("handler_failed", "KeyError: 'x'")


@given(st.text(st.characters(), max_size=100) | st.just("\ud800" * 10_000))
def test_any_text_of_an_error_becomes_one_that_can_be_sent(text: str) -> None:
    outcome = Outcome.error(ValueError(text), "id")
    assert Outcome.from_json(outcome.to_json()) == outcome
    assert len(outcome.to_json()) < 50_000


def test_the_json_has_every_field_always() -> None:
    command_id = new_id()
    outcome = Outcome(status="success", message="", code="ok", command_id=command_id)
    assert json.loads(outcome.to_json()) == {
        "status": "success",
        "message": "",
        "code": "ok",
        "command_id": command_id,
        "aggregate": None,
        "aggregate_id": None,
        "version": 0,
        "position": 0,
        "event_ids": [],
    }


@pytest.mark.parametrize("number", [-1, 2**63, 2**64, 10**30])
@pytest.mark.parametrize("field", ["version", "position"])
def test_a_number_that_no_log_counts_to_makes_no_outcome(field: str, number: int) -> None:
    outcome = Outcome(status="success", message="", code="ok", command_id="id")
    data = json.dumps(json.loads(outcome.to_json()) | {field: number}).encode()
    assert Outcome.of("id", data) is None


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"status": "maybe"}', b"\xff"])
def test_what_is_no_outcome_is_refused(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        Outcome.from_json(data)
