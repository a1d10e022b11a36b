"""`python -m projections`, a process of a fleet beside those that decide."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from eventstore import EmbeddedServer, Settings, nix
from eventstore.application import WriteSide
from eventstore.projections.database.database import Database
from eventstore.projections.queries.waiting import CheckpointPositions
from tests.integration.command_line import AWAY, BOUND


async def start(folder: Path, **environ: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "projections"),
        cwd=folder,
        env={"PATH": os.environ["PATH"], **environ},
        stderr=asyncio.subprocess.PIPE,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_it_keeps_the_read_models_up_to_date_until_a_signal(
    tmp_path: Path,
    nats_server: EmbeddedServer,
    settings: Settings,
    domain_name: str,
    number: signal.Signals,
) -> None:
    (tmp_path / "own.toml").write_text(f'[nats]\nsubject_prefix = "{domain_name}"\n')
    own = {"NATS_URL": nats_server.url, "EVENTSTORE_CONFIG": "own.toml"}
    database = Database(tmp_path / "rows.sqlite")
    async with WriteSide(nix.domain(), settings) as app, database as rows:
        await rows.migrate()
        process = await start(tmp_path, EVENTSTORE_DATABASE="rows.sqlite", **own)
        outcome = await app.commands.execute(nix.CreateFlake(path="./x", description="x"), "f1")
        for name in ("flakes", "audit"):
            await CheckpointPositions(rows).wait(outcome.position, BOUND, projection=name)
        process.send_signal(number)
        async with asyncio.timeout(BOUND):
            _, output = await process.communicate()
    assert process.returncode == 0, output


async def test_an_error_is_one_line(tmp_path: Path) -> None:
    process = await start(
        tmp_path,
        NATS_URL=AWAY,
        EVENTSTORE_DATABASE="rows.sqlite",
        EVENTSTORE_NATS_RETRY_FIRST_CONNECT_MS="0",
    )
    async with asyncio.timeout(BOUND):
        _, output = await process.communicate()
    assert (process.returncode, output.decode().splitlines()[-1][:7]) == (1, "error: ")
