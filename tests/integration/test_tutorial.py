"""The tutorial, typed as it stands: its files, its commands, and what they print."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.pages import BLOCK, ROOT, Reader, written

CHAPTERS = sorted((ROOT / "docs" / "tutorial").glob("[0-9]-*.md"))


@pytest.mark.timeout(300)
def test_each_chapter_does_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    index = (ROOT / "docs" / "tutorial" / "index.md").read_text()
    (project,) = (text for language, text in BLOCK.findall(index) if language == "toml")
    written(project, tmp_path)
    assert len(CHAPTERS) == 8
    with ExitStack() as stack:
        reader = Reader(tmp_path, stack)
        for chapter in CHAPTERS:
            reader.read(chapter)
        reader.stop()
