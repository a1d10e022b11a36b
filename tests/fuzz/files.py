"""Hostile files and settings: each is read, or refused with an error of the library.

An export, a lock file, a contract, an anchor, a file of master keys, a TOML file with settings, a
context of the NATS command line, and the environment: good ones with bytes changed, or values.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from eventstore.audit import Anchor
from eventstore.client.master_keys import MasterKeys, new_master_key
from eventstore.config import load_settings
from eventstore.config.environment import variables
from eventstore.config.settings import KINDS as SETTINGS
from eventstore.contracts import Contract, breaking_changes, describe
from eventstore.errors import EventStoreError
from eventstore.nix.lockfile import import_commands, samples
from eventstore.transfer import check_file
from tests.fault.checker.bank import app
from tests.fuzz import hostile

_TOML = """
app = "shop.app:app"
[nats]
url = "nats://127.0.0.1:4222"
inbox_prefix = "_INBOX"
[nats.retry]
max_reconnects = -1
reconnect_delay_ms = 250
[streams]
replicas = 1
compression = false
[operations]
processes = 1
metrics_address = "127.0.0.1:9464"
"""
_CONTEXT = b'{"url": "nats://127.0.0.1:4222", "user": "a", "password": "b", "inbox_prefix": "_I"}'
_CONTRACT = describe(app.domain)
_ANCHOR = Anchor(
    domain="ledger",
    stream="LEDGER_LOG",
    time="2026-01-01T00:00:00Z",
    events=2,
    aggregates=1,
    last_event_id="00000000-0000-4000-8000-000000000000",
    last_chain="0" * 64,
    root="0" * 64,
    marks={1: "0" * 64},
)


def _export(path: Path) -> None:
    asyncio.run(check_file(path))


def _contract(path: Path) -> None:
    read = Contract.from_json(path.read_bytes())
    breaking_changes(read, _CONTRACT)
    breaking_changes(_CONTRACT, read)


def _keys(path: Path) -> object:
    return MasterKeys.parse(path.read_text(encoding="utf-8", errors="replace"), str(path))


def _settings(path: Path) -> object:
    return load_settings(path, {})


def _context(path: Path) -> object:
    folder = path.parent / "config" / "nats" / "context"
    folder.mkdir(parents=True, exist_ok=True)
    path.replace(folder / "hostile.json")
    environ = {"XDG_CONFIG_HOME": str(path.parent / "config"), "HOME": str(path.parent)}
    return load_settings(environ=environ, context="hostile")


READERS: Mapping[str, Callable[[Path], object]] = {
    "export": _export,
    "lock file": import_commands,
    "contract": _contract,
    "anchor": lambda path: Anchor.from_json(path.read_bytes()),
    "master keys": _keys,
    "settings": _settings,
    "context": _context,
}
"""What reads each kind of file."""


def good_files(export: bytes) -> dict[str, bytes]:
    """A good file of each kind."""
    return {
        "export": export,
        "lock file": samples()[0].read_bytes(),
        "contract": _CONTRACT.to_json(),
        "anchor": _ANCHOR.to_json(),
        "master keys": f"{new_master_key()}\n".encode(),
        "settings": _TOML.encode(),
        "context": _CONTEXT,
    }


def fuzz_files(
    directory: Path, seed: int, count: int, export: bytes
) -> tuple[Counter[str], list[str]]:
    """Read so many hostile files and settings; returns what became of them, and findings."""
    chance = random.Random(f"{seed}/files")  # noqa: S311
    results: Counter[str] = Counter()
    findings: list[str] = []
    good = good_files(export)
    for _ in range(count):
        name = chance.choice([*READERS, "environment"])
        data = _damaged(chance, good.get(name, b""))
        try:
            _read(chance, name, data, directory)
            results["read"] += 1
        except EventStoreError:
            results["refused"] += 1
        except Exception as error:  # whatever else is raised is a finding
            findings.append(f"{name}: {error!r} for {data[:200]!r}")
    return results, findings


def _read(chance: random.Random, name: str, data: bytes, directory: Path) -> None:
    if name == "environment":
        load_settings(environ=_environment(chance))
        return
    path = directory / "hostile"
    path.write_bytes(data)
    READERS[name](path)


def _damaged(chance: random.Random, data: bytes) -> bytes:
    """The data changed here and there, cut off, with a line twice or gone, or nothing of it."""
    lines = data.splitlines(keepends=True)
    ways: list[Callable[[], bytes]] = [
        lambda: hostile.changed(chance, data),
        lambda: hostile.changed(chance, data),
        lambda: data[: chance.randrange(len(data) + 1)],
        lambda: b"".join(chance.choices(lines, k=len(lines))) if lines else b"",
        lambda: b"".join(chance.sample(lines, len(lines) - 1)) if lines else b"",
        lambda: data + data,
        lambda: chance.randbytes(chance.randrange(100)),
        lambda: hostile.payload(chance, {"a": 1}),
    ]
    return chance.choice(ways)()


def _environment(chance: random.Random) -> dict[str, str]:
    names = [name for key in SETTINGS for name in variables(key)]
    chosen = chance.sample(names, chance.randint(1, 3))
    return {name: hostile.text(chance).replace("\0", "") for name in chosen}
