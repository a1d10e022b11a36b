"""`python -m tests.mutation`: mutate a sample, run the tests that may notice, tell which did.

The first run takes some minutes more, for the map of which test reaches which line, kept in
`.mutation/`. It is rebuilt with `--map`, for example after many tests were added.
"""

from __future__ import annotations

import argparse
import os
import queue
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.mutation.core import PACKAGES, core_modules, test_arguments
from tests.mutation.equivalent import Equivalent, find, load, stale
from tests.mutation.mutants import Mutant, mutants
from tests.mutation.reach import Reach
from tests.mutation.recorder import OPTION
from tests.mutation.trial import Result, Tree

__all__ = ["FileMutant", "main", "sample", "verdict"]

PROJECT = Path(__file__).parents[2]
MAP = PROJECT / ".mutation" / "reach.json"
ENOUGH = 0.9
"""The share of the mutations that change something that has to be noticed."""

_BOUND_SECONDS = 60.0
_BOUND_FACTOR = 5.0


class FileMutant(NamedTuple):
    """A mutation, and the file it is of."""

    name: str
    mutant: Mutant

    def __str__(self) -> str:
        return f"{self.name}:{self.mutant.line} {self.mutant}"


def sample(found: Mapping[str, Sequence[Mutant]], count: int, seed: int) -> list[FileMutant]:
    """So many mutations: of each module as many as of any other, of each kind as well."""
    source = random.Random(seed)  # noqa: S311  # the same sample for the same seed
    left = {name: list(of) for name, of in sorted(found.items())}
    chosen: list[FileMutant] = []
    while len(chosen) < count and any(left.values()):
        for name in source.sample(list(left), len(left)):
            if left[name] and len(chosen) < count:
                kind = source.choice(sorted({each.kind for each in left[name]}))
                mutant = source.choice([each for each in left[name] if each.kind == kind])
                left[name].remove(mutant)
                chosen.append(FileMutant(name, mutant))
    return chosen


def verdict(results: Sequence[Result]) -> tuple[str, bool]:
    """A line that says how many were noticed, and whether that is enough."""
    noticed = sum(result.is_noticed for result in results)
    share = noticed / len(results) if results else 1.0
    return f"{noticed} of {len(results)} noticed: {share:.1%}", share >= ENOUGH


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a sample; 1 where too few were noticed."""
    options = _parser().parse_args(arguments)
    kept = load()
    with tempfile.TemporaryDirectory(prefix="mutation-") as directory:
        trees = [Tree(PROJECT, Path(directory) / str(number)) for number in range(options.jobs)]
        reach = _reach(trees[0], options.jobs, from_scratch=options.map)
        names = [each for each in core_modules(PROJECT) if options.module in each]
        found = {name: mutants((trees[0].path / name).read_text()) for name in names}
        chosen = sample(found, options.count, options.seed)
        _print(f"{len(chosen)} of {sum(map(len, found.values()))} mutations of {len(names)} files")
        worth_trying = [each for each in chosen if find(each.mutant, kept) is None]
        results = dict(_try_all(worth_trying, trees, reach))
    if not options.module:
        for entry in stale([each for of in found.values() for each in of], kept):
            _print(f"listed, and no longer there: {entry.inside}: {entry.line}: {entry.change}")
    return _report(chosen, results, kept)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="another seed, another sample")
    parser.add_argument("--count", type=int, default=60, help="how many mutations")
    parser.add_argument("--module", default="", help="only of files with this in their names")
    parser.add_argument("--jobs", type=int, default=2, help="how many trials at a time")
    parser.add_argument("--map", action="store_true", help="rebuild the map of the tests")
    return parser


def _reach(tree: Tree, jobs: int, *, from_scratch: bool) -> Reach:
    if MAP.exists() and not from_scratch:
        return Reach.load(MAP)
    _print("finding out which test reaches which line: some minutes")
    data, seconds = tree.path / "coverage.data", tree.path / "seconds.json"
    (tree.path / "coverage.ini").write_text("[run]\nparallel = true\n")
    with _environment(COVERAGE_FILE=str(data)):
        _, output = tree.pytest(
            [
                *test_arguments(),
                *("-n", str(jobs), "-p", "tests.mutation.recorder", f"{OPTION}={seconds}"),
                *(f"--cov={package}" for package in PACKAGES),
                *("--cov-context=test", "--cov-config=coverage.ini", "--cov-report="),
                *("--cov-fail-under=0", "-o", "timeout=300"),
            ]
        )
    _print(output.splitlines()[-1] if output else "pytest said nothing")
    reach = Reach.of_run(tree.path, data, seconds)
    reach.save(MAP)
    return reach


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]


def _try_all(
    chosen: Sequence[FileMutant], trees: Sequence[Tree], reach: Reach
) -> Iterator[tuple[FileMutant, Result]]:
    known = trees[0].collect(test_arguments())
    free: queue.SimpleQueue[Tree] = queue.SimpleQueue()
    for tree in trees:
        free.put(tree)

    def attempt(each: FileMutant) -> Result:
        tree = free.get()
        try:
            first, last = each.mutant.lines
            tests = reach.tests(tree.path, each.name, range(first, last + 1), known)
            bound = _BOUND_SECONDS + _BOUND_FACTOR * sum(map(reach.duration, tests))
            return tree.attempt(each.name, each.mutant, tests, bound)
        finally:
            free.put(tree)

    with ThreadPoolExecutor(len(trees)) as pool:
        trials = {pool.submit(attempt, each): each for each in chosen}
        try:
            for number, trial in enumerate(as_completed(trials), start=1):
                each, result = trials[trial], trial.result()
                of = f"{result.tests} tests, {result.seconds:.1f} s"
                _print(f"[{number}/{len(trials)}] {result.what}: {each} ({of})")
                yield each, result
        finally:
            pool.shutdown(cancel_futures=True)


def _report(
    chosen: Sequence[FileMutant], results: Mapping[FileMutant, Result], kept: Sequence[Equivalent]
) -> int:
    listed = Counter(entry.effect for each in chosen if (entry := find(each.mutant, kept)))
    for each, result in results.items():
        if not result.is_noticed:
            place = f"{each.mutant.inside}: {each.mutant.text}"
            _print(f"not noticed ({result.what}): {each}\n    in {place}")
    output, enough = verdict(list(results.values()))
    _print(f"{listed['none']} change nothing, {listed['cost']} only what something takes; {output}")
    return 0 if enough else 1


def _print(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
