"""Two revisions' read sides as processes, to be compared in alternation."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_SIDE = Path(__file__).with_name("read_side.py")


@contextmanager
def checked_out(revision: str) -> Iterator[Path]:
    """The files of a revision of this repository, in a directory of their own."""
    with tempfile.TemporaryDirectory() as directory:
        archive = Path(directory, "files.tar")
        command = ["git", "archive", "--output", str(archive), revision]
        subprocess.run(command, cwd=ROOT, check=True)
        with tarfile.open(archive) as files:
            files.extractall(directory, filter="data")
        yield Path(directory)


class Side:
    """A process that runs the files of one revision."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def ask(self, request: object) -> Any:
        """Its answer to a request."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        return await self.answer()

    async def answer(self) -> Any:
        """Its next line."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise SystemExit("a process of the comparison ended")
        return json.loads(line)

    def cpu(self) -> float:
        """The seconds of CPU that it has used until now."""
        tasks = Path(f"/proc/{self._process.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


@asynccontextmanager
async def side(tree: Path, role: str, url: str, location: str = "") -> AsyncIterator[Side]:
    """A process of the revision whose files are below `tree`, once it is ready."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", str(_SIDE), role, url, location),
        stdin=pipe,
        stdout=pipe,
        env={**os.environ, "PYTHONPATH": str(tree)},
    )
    started = Side(process)
    try:
        assert await started.answer() == "ready"
        yield started
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
