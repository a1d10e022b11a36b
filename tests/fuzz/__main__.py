"""Fuzz a service, files and settings, and print counts; status 1 if anything was found.

python -m tests.fuzz --messages 100000 --seed 7
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.files import fuzz_files
from tests.fuzz.run import Result, fuzz


def _printed(result: Result) -> None:
    print(f"{sum(result.sent.values()):10,}  messages: {dict(result.sent.most_common())}")
    print(f"{sum(result.answered.values()):10,}  answered: {dict(result.answered.most_common())}")
    print(f"{result.accepted:10,}  commands accepted, {result.parked:,} messages parked")
    for name, (size, files) in zip(
        ("at first", "at the half", "at the end"),
        (result.sizes[0], result.sizes[len(result.sizes) // 2], result.sizes[-1]),
        strict=True,
    ):
        print(f"{size >> 20:10,}  MB and {files} descriptors {name}")


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--files", type=int, default=10_000, help="files and settings; 10000")
    options = parser.parse_args()
    print(f"seed {options.seed}")
    began = shown = time.monotonic()

    def report(line: str) -> None:
        nonlocal shown
        if time.monotonic() - shown > 10:
            shown = time.monotonic()
            print(f"{shown - began:7.0f} s  {line}", flush=True)

    with tempfile.TemporaryDirectory() as directory:
        result = asyncio.run(fuzz(Path(directory), options.seed, options.messages, report))
        read, findings = fuzz_files(Path(directory), options.seed, options.files, result.export)
    _printed(result)
    print(f"{sum(read.values()):10,}  files and settings: {dict(read.most_common())}")
    findings = [*result.findings, *findings]
    print(f"{len(findings):10,}  findings")
    for finding in findings[:20]:
        print(f"{'':12}{finding}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
