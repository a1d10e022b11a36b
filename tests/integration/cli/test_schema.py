"""`eventstore schema`: the contract, the AsyncAPI document and the comparison."""

from __future__ import annotations

import json
from pathlib import Path

from tests.integration.command_line import CommandLine


def test_a_later_release_is_compared_with_the_contract_of_an_earlier_one(tmp_path: Path) -> None:
    cli = CommandLine(tmp_path)
    described = cli.call("schema", "json")
    assert described.status == 0
    baseline = tmp_path / "contract.json"
    baseline.write_text(described.out)

    same = cli.call("schema", "check", str(baseline))
    assert (same.status, same.out) == (0, f"nothing breaks what relies on {baseline}\n")

    earlier = json.loads(described.out)
    earlier["definitions"]["CreateFlake"]["properties"]["owner"] = {"type": "string"}
    baseline.write_text(json.dumps(earlier))
    broken = cli.call("schema", "check", str(baseline))
    assert broken.status == 1
    assert broken.out == (
        "command CreateFlake: data.owner: is refused as unknown (breaks senders)\n"
    )
    (listed,) = map(
        json.loads, cli.call("schema", "check", str(baseline), "--json").out.splitlines()
    )
    assert listed == {
        "message": "command CreateFlake",
        "affects": "senders",
        "problem": "data.owner: is refused as unknown",
    }


def test_a_baseline_that_is_none_is_named(tmp_path: Path) -> None:
    cli = CommandLine(tmp_path)
    missing = cli.call("schema", "check", "nothing.json")
    assert (missing.status, missing.err) == (
        2,
        "error: nothing.json cannot be read: No such file or directory\n",
    )
    (tmp_path / "bad.json").write_text('{"format": 1}')
    bad = cli.call("schema", "check", "bad.json")
    assert bad.status == 2
    assert bad.err.startswith("error: bad.json: it is not a contract: ")


def test_the_document_is_printed(tmp_path: Path) -> None:
    printed = CommandLine(tmp_path).call("schema", "asyncapi")
    assert printed.status == 0
    assert json.loads(printed.out)["channels"]["command.CreateFlake"]["address"] == (
        "nix.cmd.flake.create"
    )
