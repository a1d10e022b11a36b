"""Run the checker of appends, and print counts; status 1 if anything was found.

python -m tests.fault.appends --seed 7 --seconds 120 --servers 3
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.fault.appends.judge import judge
from tests.fault.appends.run import run


def main() -> int:
    """Run, judge and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.fault.appends", description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--servers", type=int, choices=(1, 3), default=1)
    parser.add_argument("--writers", type=int, default=3, help="processes that append")
    options = parser.parse_args()
    print(f"seed {options.seed}, {options.servers} servers, {options.writers} writers")
    with tempfile.TemporaryDirectory() as directory:
        history = asyncio.run(
            run(
                Path(directory),
                options.seed,
                options.seconds,
                servers=options.servers,
                writers=options.writers,
                report=lambda line: print(f"  {line}", flush=True),
            )
        )
    findings = judge(history.log, history.attempts)
    results = Counter(attempt.result for attempt in history.attempts)
    duplicates = sum(each.duplicate for attempt in history.attempts for each in attempt.told)
    print(f"{len({each.number for each in history.attempts}):10,}  appends")
    print(f"{len(history.attempts):10,}  attempts: {dict(results.most_common())}")
    print(f"{duplicates:10,}  told that they had been recorded before")
    print(f"{len(history.log):10,}  events in the log")
    print(f"{len(history.faults):10,}  faults")
    print(f"{len(findings):10,}  findings")
    for finding in findings[:20]:
        print(f"{'':12}{finding[:600]}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
