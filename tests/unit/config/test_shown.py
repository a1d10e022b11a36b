"""What help shows: nothing of the machine or of the process's environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]

CODE = """
import importlib, pkgutil, pydoc, eventstore, projections
for package in (eventstore, projections):
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not found.name.endswith("__main__"):
            module = importlib.import_module(found.name)
            print(pydoc.plaintext.document(module).rpartition("\\nFILE\\n")[0])
from typer.testing import CliRunner
from eventstore.cli.app import app
for words in ([], ["serve"], ["send"], ["ops", "nats"], ["audit", "verify"]):
    print(CliRunner().invoke(app, [*words, "--help"]).stdout)
"""


def test_no_help_shows_the_environment(tmp_path: Path) -> None:
    canary = "c4nary"
    home = tmp_path / canary
    home.mkdir()
    own = {"NATS_PASSWORD": canary, "NATS_URL": canary, "EVENTSTORE_DATABASE": canary}
    environ = {**os.environ, **own, "HOME": str(home), "USER": canary, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, "-c", CODE], env=environ, cwd=home, capture_output=True, text=True
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "load_settings(" in ended.stdout
    assert "Usage: " in ended.stdout
    assert canary not in ended.stdout
