"""The code of the README and of the examples runs as written."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def blocks(language: str) -> list[str]:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", readme, re.DOTALL)


def printed(program: Path, directory: Path) -> str:
    """The standard output of a program, which must not write to standard error."""
    result = subprocess.run(
        [sys.executable, program], cwd=directory, capture_output=True, text=True, timeout=30
    )
    assert result.stderr == ""
    return result.stdout


def test_the_program_of_the_readme_prints_the_quoted_output(tmp_path: Path) -> None:
    example = tmp_path / "example.py"
    example.write_text(blocks("python")[0], encoding="utf-8")
    assert printed(example, tmp_path) == blocks("text")[0]


def test_the_scenarios_of_the_readme_hold() -> None:
    example, scenarios = blocks("python")[:2]
    names: dict[str, object] = {"__name__": "readme"}
    exec(example.rpartition("asyncio.run")[0], names)  # noqa: S102  # the README's own code
    exec(scenarios, names)  # noqa: S102  # the README's own code


def test_the_to_do_list_runs_with_its_read_model_and_its_subscriber(tmp_path: Path) -> None:
    expected = "notified: milk is done\nbuy milk: done\nbuy tea: to do\n"
    assert printed(ROOT / "examples" / "todo.py", tmp_path) == expected
