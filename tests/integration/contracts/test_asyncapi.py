"""The AsyncAPI document is valid, according to AsyncAPI's own parser."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest

from eventstore.contracts import asyncapi, describe
from projections import app
from tests.integration.npm import needs_npm, output

PARSER = "@asyncapi/parser@3.6.6"


@needs_npm
@pytest.mark.timeout(240)  # the parser is some fifty megabytes
async def test_the_document_of_the_domain_that_ships_is_valid(tmp_path: Path) -> None:
    shutil.copy(Path(__file__).with_name("validate.mjs"), tmp_path)
    document = asyncapi(describe(app.domain, app.query_types, version="1.2.3"))
    (tmp_path / "asyncapi.json").write_bytes(msgspec.json.encode(document))

    await output(tmp_path, "npm", "install", "--no-audit", "--no-fund", "--silent", PARSER)

    assert await output(tmp_path, "node", "validate.mjs", "asyncapi.json") == ""
