from __future__ import annotations

from typing import Any

import msgspec
import pytest

from eventstore.client.api_answers import StreamInfo

SECOND = 1_000_000_000
STATE = {"messages": 0, "bytes": 0, "first_seq": 0, "last_seq": 0, "first_ts": "x"}
CONFIG = {"name": "SHOP_LOG", "num_replicas": 3}


@pytest.mark.parametrize(
    ("facts", "is_behind"),
    [
        ({"current": True, "active": 60 * SECOND}, False),
        ({"current": False, "active": SECOND, "lag": 3}, False),  # of a write that is under way
        ({"current": False, "active": SECOND, "lag": 1_001}, True),
        ({"current": False, "active": 6 * SECOND}, True),
        ({"current": False, "active": SECOND, "offline": True}, True),
    ],
)
def test_replicas_that_could_not_lead_are_named(facts: dict[str, Any], is_behind: bool) -> None:
    replicas = [{"name": "n3", **facts}, {"name": "n2", "current": True, "active": SECOND}]
    cluster = {"leader": "n1", "replicas": replicas}
    answer = {"created": "x", "config": CONFIG, "state": STATE, "cluster": cluster}
    assert msgspec.convert(answer, StreamInfo).behind == (["n3"] if is_behind else [])
    single = {**answer, "cluster": {"leader": "n1"}}
    assert msgspec.convert(single, StreamInfo).behind == []
