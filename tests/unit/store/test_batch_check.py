"""Incomplete batches: an error if an event of the store is among them."""

from __future__ import annotations

import pytest

from eventstore.errors import IncompleteBatch
from eventstore.store.batches import BatchCheck

FIRST = {"Nats-Batch-Id": "b", "Nats-Batch-Sequence": "1"}
THIRD = {"Nats-Batch-Id": "b", "Nats-Batch-Sequence": "3"}


def test_a_batch_of_foreign_messages_may_break_off() -> None:
    check = BatchCheck(anywhere=False)
    check.see({}, 1)
    check.see(FIRST, 2, foreign=True)
    check.see({}, 3)
    check.see(THIRD, 4, foreign=True)
    check.see({}, 5)
    assert not check.is_open


@pytest.mark.parametrize("own", [0, 1])
def test_a_batch_with_an_event_of_the_store_may_not(own: int) -> None:
    check = BatchCheck(anywhere=False)
    check.see(FIRST, 1, foreign=own != 0)
    with pytest.raises(IncompleteBatch, match="position 2: batch b breaks off after 1"):
        check.see(THIRD, 2, foreign=own != 1)


def test_an_event_among_foreign_messages_that_lack_some_is_reported_once() -> None:
    check = BatchCheck(anywhere=False)
    check.see(THIRD, 1, foreign=True)
    with pytest.raises(IncompleteBatch):
        check.see({**THIRD, "Nats-Batch-Sequence": "4"}, 2)
    check.see({**THIRD, "Nats-Batch-Sequence": "5", "Nats-Batch-Commit": "1"}, 3)
    assert not check.is_open
