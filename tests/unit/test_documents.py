"""The documents: they name what there is, and their links lead somewhere."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from tests.unit.test_architecture import ROOMS

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")
ROW = re.compile(r"^\| (`[^|]*) \|", re.MULTILINE)


def named(document: str, heading: str) -> list[str]:
    """The names in code in the first column of the table below a heading."""
    _, _, table = (ROOT / document).read_text().partition(heading)
    rows = ROW.findall(table.partition("\n## ")[0])
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files(document: Path) -> None:
    links = LINK.findall(document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []


def test_the_guide_for_contributors_names_every_room() -> None:
    rooms = {room.removeprefix("eventstore.") for room in ROOMS if room.startswith("eventstore.")}
    assert set(named("CONTRIBUTING.md", "## The rooms")) == rooms - {
        "__main__",
        "jetstream.vocabulary",
    }


def test_every_module_that_the_readme_names_is_there() -> None:
    modules = named("README.md", "| module | what it is for |")
    assert len(modules) > 10
    for module in modules:
        importlib.import_module(module)
