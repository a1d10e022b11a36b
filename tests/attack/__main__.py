"""Run all attacks as each role, and print a table; status 1 if anything got through."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from tests.attack.attacks import ROLES
from tests.attack.running import Result, attacked_service, run_attacks
from tests.shipped import ShippedServers


async def _all(shipped: ShippedServers) -> list[Result]:
    results = []
    for role in ROLES:
        async for result in run_attacks(shipped, role):
            _print(result)
            results.append(result)
    return results


def _print(result: Result) -> None:
    what = f"{result.attack.aim} ({result.attempts})" if result.attempts else result.attack.aim
    got = result.got or ("nothing" if result.attempts else "its own right: not tried")
    state = "unchanged" if not result.harm else "HARM"
    print(f"{result.role:10}  {what:62}  {got:44}  {state}", flush=True)
    for harm in result.harm:
        print(f"{'':10}    {harm}")


def main() -> int:
    """All attacks against a service of its own."""
    print(f"{'role':10}  {'tried':62}  {'got':44}  streams and others' inboxes")
    with (
        tempfile.TemporaryDirectory() as directory,
        attacked_service(Path(directory)) as shipped,
    ):
        results = asyncio.run(_all(shipped))
    through = [result for result in results if result.harm]
    attempts = sum(result.attempts for result in results)
    print(f"{attempts:,} attempts in {len(results)} attacks: {len(through)} got through")
    return 1 if through else 0


if __name__ == "__main__":
    sys.exit(main())
