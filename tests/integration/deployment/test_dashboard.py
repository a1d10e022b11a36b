"""Every query of the dashboard, and of the alerts, finds something in a real Prometheus."""

from __future__ import annotations

import asyncio
import json
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from eventstore import nix
from eventstore.config import OperationsSettings, Settings
from eventstore.deployment import monitoring_files
from projections import app
from tests import debian
from tests.ports import free_ports

BOUND = 60.0
SILENT = {"eventstore_conflicts_total", "eventstore_parked_total", "eventstore_log_findings_total"}
SILENT |= {"eventstore_subscriber_lag_seconds", 'outcome="error"'}
"""What has no series until something happens that does not happen here."""

PROMETHEUS = debian.file("usr/bin/prometheus")

pytestmark = pytest.mark.skipif(
    PROMETHEUS is None, reason="prometheus is not installed: make debian"
)


def queries() -> Iterator[str]:
    files = monitoring_files("nix")
    for panel in json.loads(files["dashboard.json"])["panels"]:
        yield from (each["expr"] for each in panel["targets"])
    for group in yaml.safe_load(files["alerts.yml"])["groups"]:
        for rule in group["rules"]:
            yield rule["expr"]


@asynccontextmanager
async def prometheus(directory: Path, target: str) -> AsyncIterator[str]:
    (port,) = free_ports(1)
    scraped = {"job_name": "nix", "static_configs": [{"targets": [target]}]}
    settings = {"global": {"scrape_interval": "1s"}, "scrape_configs": [scraped]}
    (directory / "prometheus.yml").write_text(yaml.safe_dump(settings))
    process = await asyncio.create_subprocess_exec(
        str(PROMETHEUS),
        "--config.file=prometheus.yml",
        "--storage.tsdb.path=data",
        f"--web.listen-address=127.0.0.1:{port}",
        cwd=directory,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


async def asked(url: str, query: str) -> list[Any]:
    def fetch() -> list[Any]:
        text = urllib.parse.urlencode({"query": query})
        with urllib.request.urlopen(f"{url}/api/v1/query?{text}", timeout=10) as answer:  # noqa: S310
            found = json.loads(answer.read())
        assert found["status"] == "success", (query, found)
        result: list[Any] = found["data"]["result"]
        return result

    return await asyncio.to_thread(fetch)


async def until_found(url: str, query: str) -> None:
    async with asyncio.timeout(BOUND):
        while True:
            try:
                if await asked(url, query):
                    return
            except OSError:  # it is still starting
                pass
            await asyncio.sleep(0.1)


async def test_each_query_finds_what_a_service_serves(settings: Settings, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    operations = OperationsSettings(metrics_address=address, sample_interval_ms=500)
    settings = msgspec.structs.replace(settings, operations=operations)
    async with (
        app.running(settings, directory=tmp_path) as service,
        prometheus(tmp_path, address) as url,
    ):
        for number in range(2):  # a rate needs two samples
            await service.execute(nix.CreateModule(name=f"m{number}", content="0"), f"m{number}")
            later = nix.CreateModule(name=f"later{number}", content="0")
            await service.send(later, f"later{number}", after=0)
            await service.ask(nix.ListModules())
            count = 'count_over_time(up{job="nix"}[1h])'
            await until_found(url, f"{count} >= {2 * (number + 1)}")
        for query in queries():
            shown = query.replace("$__rate_interval", "1m")
            if any(name in shown for name in SILENT):
                await asked(url, shown)
                continue
            without_bound = shown.partition(" > ")[0].partition(" >= ")[0].partition(" == ")[0]
            await until_found(url, without_bound)
