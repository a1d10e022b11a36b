"""A client in another language, which knows the wire contract alone, works with a service."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

from eventstore import Application
from tests.conftest import StartServer, settings_for
from tests.integration.npm import needs_npm, output

EXAMPLES = Path(__file__).parents[2] / "examples"


def bank() -> Application:
    spec = importlib.util.spec_from_file_location("bank_of_examples", EXAMPLES / "bank.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    app: Application = module.app
    return app


@needs_npm
async def test_the_client_in_typescript_commands_queries_and_follows(
    start_server: StartServer, tmp_path: Path
) -> None:
    for name in ("bank.ts", "package.json", "package-lock.json", "tsconfig.json"):
        shutil.copy(EXAMPLES / "typescript" / name, tmp_path)
    await output(tmp_path, "npm", "ci", "--no-audit", "--no-fund", "--prefer-offline")

    server = await start_server()  # its subjects are the client's: those of the bank
    settings = settings_for(server.url, "bank")
    async with bank().running(settings, directory=tmp_path / "var"):
        printed = await output(tmp_path, "npm", "start", "--silent", NATS_URL=server.url)

    assert printed.splitlines() == [
        "deposit: success, version 1",
        "the same again: same event",
        "withdraw: rejected, not_covered: the balance is 50",
        "balance: 50",
        'event: v1 Deposited {"amount":50}',
    ]
