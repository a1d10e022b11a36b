"""The AsyncAPI document is valid, according to AsyncAPI's own parser."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import msgspec
import pytest

from eventstore.contracts import asyncapi, describe
from projections import app
from tests.conftest import run_beside
from tests.integration.npm import needs_npm, output

PARSER = "@asyncapi/parser@3.6.6"
NPM_INSTALL = ("npm", "install", "--prefix", ".", "--no-audit", "--no-fund", "--silent")


@pytest.fixture
def installed(pytestconfig: pytest.Config) -> Path:
    """A folder with the parser, kept by pytest: thousands of files, the same for each run."""
    assert pytestconfig.cache is not None
    cache = pytestconfig.cache.mkdir("asyncapi")
    kept = cache / PARSER.rpartition("@")[2]
    if not kept.exists():
        with tempfile.TemporaryDirectory(dir=cache) as directory:
            new = Path(directory, "new")
            new.mkdir()
            run_beside(output(new, *NPM_INSTALL, PARSER))
            new.rename(kept)  # whole or not at all
    return kept


@needs_npm
@pytest.mark.timeout(240)  # the parser is some fifty megabytes
async def test_the_document_of_the_domain_that_ships_is_valid(installed: Path) -> None:
    shutil.copy(Path(__file__).with_name("validate.mjs"), installed)
    document = asyncapi(describe(app.domain, app.query_types, version="1.2.3"))
    (installed / "asyncapi.json").write_bytes(msgspec.json.encode(document))

    assert await output(installed, "node", "validate.mjs", "asyncapi.json") == ""
