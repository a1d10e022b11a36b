from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from eventstore.errors import StreamMissing
from eventstore.messages.envelope import parse_timestamp
from eventstore.service import health as health_module
from eventstore.service.health import CheckResult, Health, HealthReport, resident_bytes, worst
from eventstore.service.metrics import Metrics

BOUND = 5.0


async def fine() -> CheckResult:
    return CheckResult(facts={"rtt_ms": 0.3})


async def slow() -> CheckResult:
    return CheckResult(status="degraded", problem="7 events behind", facts={"lag": 7})


async def gone() -> CheckResult:
    raise StreamMissing("stream X_LOG does not exist")


class CountingCheck:
    """A check that counts how often it is asked, and waits until it is let go."""

    def __init__(self) -> None:
        self.calls = 0
        self.asked = asyncio.Event()
        self.let_go = asyncio.Event()

    async def __call__(self) -> CheckResult:
        self.calls += 1
        self.asked.set()
        await self.let_go.wait()
        return CheckResult()


async def test_a_report_has_service_time_and_results() -> None:
    health = Health("svc", "1.2.3", {"connection": fine})

    report = await health.report()

    assert (report.status, report.service, report.version) == ("healthy", "svc", "1.2.3")
    assert abs((datetime.now(UTC) - parse_timestamp(report.timestamp)).total_seconds()) < BOUND
    assert report.details["connection"] == {"status": "healthy", "rtt_ms": 0.3}
    assert report.details["memory_bytes"] > 1_000_000
    assert 0 <= report.details["uptime_seconds"] < BOUND
    assert HealthReport.from_json(report.to_json()) == report


async def test_the_worst_result_is_the_overall_status() -> None:
    async def status_of(**checks: Any) -> str:
        return (await Health("svc", "1.0.0", checks).report()).status

    assert await status_of() == "healthy"
    assert await status_of(a=fine, b=slow) == "degraded"
    assert await status_of(a=gone, b=slow, c=fine) == "unhealthy"
    assert worst() == "healthy"


async def test_the_problem_is_reported_with_the_facts() -> None:
    report = await Health("svc", "1.0.0", {"a": fine, "b": slow, "c": gone}).report()

    assert report.problems == {"b": "7 events behind", "c": "stream X_LOG does not exist"}
    assert report.checks["b"] == {"status": "degraded", "problem": "7 events behind", "lag": 7}
    assert report.checks["c"]["status"] == "unhealthy"


async def test_a_check_whose_helper_was_cancelled_is_unhealthy_and_stops_no_other() -> None:
    async def cancelled() -> CheckResult:
        raise asyncio.CancelledError

    report = await Health("svc", "1.0.0", {"a": cancelled, "b": fine}).report()

    assert report.problems == {"a": "RuntimeError: something that was awaited has been cancelled"}


async def test_a_check_at_fault_is_unhealthy_and_stops_no_other() -> None:
    async def broken() -> CheckResult:
        raise ZeroDivisionError("oops")

    report = await Health("svc", "1.0.0", {"broken": broken, "fine": fine}).report()

    assert report.problems == {"broken": "ZeroDivisionError: oops"}
    assert report.details["fine"]["status"] == "healthy"


async def test_a_check_that_hangs_is_unhealthy_after_its_time() -> None:
    report = await Health(
        "svc", "1.0.0", {"hangs": CountingCheck(), "fine": fine}, timeout=0.01
    ).report()

    assert report.problems == {"hangs": "no answer after 0.01 s"}
    assert report.details["fine"]["status"] == "healthy"


async def test_checks_run_at_the_same_time() -> None:
    met = asyncio.Barrier(3)

    async def meets() -> CheckResult:
        await met.wait()
        return CheckResult()

    report = await Health("svc", "1.0.0", dict.fromkeys("abc", meets), timeout=BOUND).report()

    assert report.status == "healthy"


async def test_a_flood_of_questions_is_one_look() -> None:
    check = CountingCheck()
    health = Health("svc", "1.0.0", {"counted": check}, cache_ttl=60.0)

    async with asyncio.timeout(BOUND), asyncio.TaskGroup() as group:
        questions = [group.create_task(health.report()) for _ in range(1_000)]
        await check.asked.wait()
        check.let_go.set()

    assert check.calls == 1
    assert len({id(question.result()) for question in questions}) == 1
    await health.report()
    assert check.calls == 1


async def test_after_the_cache_ttl_it_is_checked_again() -> None:
    check = CountingCheck()
    check.let_go.set()
    health = Health("svc", "1.0.0", {"counted": check}, cache_ttl=0.0)

    await health.report()
    await health.report()

    assert check.calls == 2


async def test_a_cancelled_request_does_not_cancel_others() -> None:
    check = CountingCheck()
    health = Health("svc", "1.0.0", {"counted": check})
    impatient = asyncio.create_task(health.report())
    await asyncio.wait_for(check.asked.wait(), BOUND)
    patient = asyncio.create_task(health.report())

    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    check.let_go.set()

    assert (await asyncio.wait_for(patient, BOUND)).status == "healthy"


async def test_changes_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    findings = iter(
        [CheckResult(), *2 * [CheckResult(status="degraded", problem="behind")], CheckResult()]
    )

    async def changing() -> CheckResult:
        return next(findings)

    health = Health("svc", "1.0.0", {"reader": changing}, cache_ttl=0.0)
    with caplog.at_level(logging.INFO, logger="eventstore"):
        for _ in range(4):
            await health.report()

    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "svc is degraded now: reader: behind"),
        ("WARNING", "svc is healthy now"),
    ]


async def test_findings_become_gauges() -> None:
    metrics = Metrics()

    await Health("svc", "1.0.0", {"a": fine, "b": slow, "c": gone}, telemetry=metrics).report()

    text = metrics.render().decode()
    for check, level in (("a", 0), ("b", 1), ("c", 2)):
        assert f'eventstore_health{{check="{check}"}} {level}.0' in text


def test_memory_is_known_without_proc_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    held = resident_bytes()

    monkeypatch.setattr(health_module, "_STATM", tmp_path / "none")
    assert resident_bytes() >= held / 2
    monkeypatch.setattr("sys.platform", "darwin")
    assert resident_bytes() > 0


async def test_checks_of_another_process_count_like_its_own() -> None:
    async def others() -> dict[str, CheckResult]:
        return {"projections": await slow()}

    report = await Health("svc", "1.2.3", {"connection": fine}, others=others).report()

    assert list(report.checks) == ["connection", "projections"]
    assert (report.status, report.problems) == ("degraded", {"projections": "7 events behind"})
