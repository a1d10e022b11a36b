"""The README's code runs as written."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def test_the_decider_example_prints_what_the_readme_says(tmp_path: Path) -> None:
    example = tmp_path / "example.py"
    example.write_text(blocks("python")[0], encoding="utf-8")
    result = subprocess.run(
        [sys.executable, example], cwd=tmp_path, capture_output=True, text=True, timeout=30
    )
    assert (result.stderr, result.stdout) == ("", blocks("text")[0])


def test_the_scenarios_of_the_readme_hold() -> None:
    example, scenarios = blocks("python")[:2]
    names: dict[str, object] = {"__name__": "readme"}
    exec(example.rpartition("asyncio.run")[0], names)  # noqa: S102  # the README's own code
    exec(scenarios, names)  # noqa: S102  # the README's own code
