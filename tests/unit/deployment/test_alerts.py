"""Each alert fires for what it is about, and for nothing that is as it should be."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from eventstore.deployment import monitoring_files
from tests import debian

RULES = monitoring_files("shop")["alerts.yml"]
PROMTOOL = debian.file("usr/bin/promtool")
MINUTES = 20

pytestmark = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not there: make debian")


class Case(NamedTuple):
    """Values by series, one a minute as Prometheus notes them: some that alarm, and some not."""

    alarming: Mapping[str, str]
    quiet: Mapping[str, str]


def level(series: str, alarming: str, *quiet: str) -> list[Case]:
    return [Case({series: alarming}, {series: each}) for each in quiet]


HEALTH = 'eventstore_health{instance="a",check="storage"}'
PARKED = 'eventstore_parked_total{instance="a",code="defect"}'
FOUND = 'eventstore_log_findings_total{instance="a",kind="foreign"}'
FAILED, DONE = (
    f'eventstore_commands_total{{instance="a",outcome="{each}"}}' for each in ("error", "success")
)
CASES = {
    "EventStoreDown": level('up{job="shop",instance="a"}', "0x30", "1x30", "1x19 0 1x10"),
    "EventStoreUnhealthy": level(HEALTH, "2x30", "1x30", "0x30", "0x19 2 0x10"),
    "EventStoreDegraded": level(HEALTH, "1x30", "0x30", "2x30", "0x15 1x15"),
    "EventStoreCommandsWait": level("eventstore_command_oldest_seconds", "31x30", "29x30"),
    "EventStoreProjectionLags": level(
        'eventstore_projection_lag_seconds{projection="orders"}', "61x30", "59x30", "0x18 99x12"
    ),
    "EventStoreSubscriberLags": level(
        'eventstore_subscriber_lag_seconds{subscriber="mail"}', "61x30", "59x30"
    ),
    "EventStoreFeedLags": level("eventstore_feed_lag_seconds", "61x30", "59x30"),
    "EventStoreParked": [
        *level(PARKED, "3x15 4x15", "3x30"),
        *level(PARKED, "_x15 1x15", "1x30"),
    ],
    "EventStoreForeignMessages": [
        *level(FOUND, "3x15 4x15", "3x30"),
        *level(FOUND, "_x15 1x15", "1x30"),
    ],
    "EventStoreCommandErrors": [
        Case({FAILED: "0+2x30", DONE: "0+98x30"}, {FAILED: "0+1x30", DONE: "0+199x30"})
    ],
}
"""By alert; a counter has no series until there is something to count."""


def firing(alert: str, series: Mapping[str, str], count: int) -> dict[str, Any]:
    expected = [{"labels": "{}", "value": count}] if count else []
    question = f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})'
    asked = {"expr": question, "eval_time": f"{MINUTES}m", "exp_samples": expected}
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": each} for name, each in series.items()],
        "promql_expr_test": [asked],
    }


def test_each_alert_has_a_case() -> None:
    (group,) = yaml.safe_load(RULES)["groups"]
    assert [rule["alert"] for rule in group["rules"]] == list(CASES)


@pytest.mark.parametrize("alert", CASES)
def test_it_fires_when_it_should(tmp_path: Path, alert: str) -> None:
    (tmp_path / "alerts.yml").write_text(RULES)
    tests = [
        firing(alert, series, count)
        for case in CASES[alert]
        for series, count in ((case.alarming, 1), (case.quiet, 0))
    ]
    file = {"rule_files": ["alerts.yml"], "evaluation_interval": "1m", "tests": tests}
    (tmp_path / "cases.yml").write_text(yaml.safe_dump(file))

    ended = subprocess.run(
        [str(PROMTOOL), "test", "rules", "cases.yml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert ended.returncode == 0, ended.stdout + ended.stderr
