"""Programs of other languages' ecosystem: Node and npm, where they are installed."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

BOUND = 110.0

needs_npm = pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")


async def output(directory: Path, *command: str, **environment: str) -> str:
    """What a command prints, in a directory; it must succeed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=directory,
        env=os.environ | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(BOUND):
        out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    return out.decode()
