"""Which answers to an append are worth another try, and for how long."""

from __future__ import annotations

import pytest

from eventstore.errors import ClientError, JetStreamError, NoResponders, RequestTimeout
from eventstore.store.append_retries import AppendRetries


def error(err_code: int) -> JetStreamError:
    return JetStreamError(err_code, 503, "")


@pytest.mark.parametrize("err_code", [10008, 10158, 10163, 10167, 10210])
def test_what_passes_by_itself_is_tried_as_long_as_there_is_time(err_code: int) -> None:
    retries = AppendRetries()
    delays = [retries.delay_after(error(err_code)) for _ in range(100)]
    assert 0 < min(delays) <= max(delays) <= 0.5
    assert isinstance(retries.last, JetStreamError)


def test_a_batch_that_fell_apart_is_tried_three_times_more() -> None:
    retries = AppendRetries()
    for _ in range(3):
        assert retries.delay_after(error(10176)) > 0
    with pytest.raises(JetStreamError):
        retries.delay_after(error(10176))


def test_without_an_answer_a_new_leader_is_waited_for() -> None:
    retries = AppendRetries()
    assert 5 < sum(retries.delay_after(NoResponders("")) for _ in range(25)) < 15
    with pytest.raises(NoResponders):
        retries.delay_after(NoResponders(""))


@pytest.mark.parametrize("refusal", [error(10174), error(10077), ClientError("")])
def test_what_no_other_try_would_change_is_raised(refusal: ClientError) -> None:
    with pytest.raises(ClientError):
        AppendRetries().delay_after(refusal)


def test_a_missing_answer_and_a_claim_are_waited_for_longer_each_time() -> None:
    retries = AppendRetries()
    first, later = retries.delay_after(RequestTimeout("")), 0.0
    for _ in range(5):
        later = retries.delay_after_claim()
    assert later > first
    assert retries.claims == 5
