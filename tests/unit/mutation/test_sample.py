"""The sample, the list of what cannot be noticed, and who is asked about a change."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from coverage import CoverageData

from tests.mutation.__main__ import sample, verdict
from tests.mutation.equivalent import Equivalent, find, load, stale
from tests.mutation.mutants import mutants
from tests.mutation.reach import Reach
from tests.mutation.trial import Result, Tree, run

PROJECT = Path(__file__).parents[3]
SOURCE = "def f(a):\n    if a < 3:\n        return g(a, 4)\n    return a + 1\n"


def test_a_seed_makes_the_same_sample_and_another_seed_another() -> None:
    found = {"one.py": mutants(SOURCE), "two.py": mutants(SOURCE * 3)}
    assert sample(found, 10, 1) == sample(dict(reversed(found.items())), 10, 1)
    assert sample(found, 10, 1) != sample(found, 10, 2)


def test_a_sample_takes_from_each_module_as_often_as_from_any_other() -> None:
    found = {"one.py": mutants(SOURCE), "two.py": mutants(SOURCE * 30)}
    assert Counter(each.name for each in sample(found, 8, 1)) == {"one.py": 4, "two.py": 4}


def test_a_sample_has_nothing_twice_and_no_more_than_there_is() -> None:
    found = {"one.py": mutants(SOURCE)}
    chosen = sample(found, 1_000, 1)
    assert len(chosen) == len(set(chosen)) == len(found["one.py"])


@pytest.mark.parametrize(
    ("noticed", "missed", "enough"), [(9, 1, True), (8, 1, False), (0, 0, True), (0, 1, False)]
)
def test_nine_of_ten_have_to_be_noticed(noticed: int, missed: int, enough: bool) -> None:
    results = [Result("noticed", 1, 0.1)] * noticed + [Result("missed", 1, 0.1)] * missed
    assert verdict(results)[1] is enough


def test_a_trial_that_hangs_is_noticed_and_one_that_nobody_reaches_is_not() -> None:
    output, _ = verdict([Result("hung", 1, 0.1), Result("unreached", 0, 0.1)])
    assert output == "1 of 2 noticed: 50.0%"


def test_a_mutation_is_found_in_the_list_by_the_text_of_its_line_wherever_that_is() -> None:
    entry = Equivalent("f", "if a < 3:", "a < 3 -> (a <= 3)", "none", "3 is never given")
    moved = mutants("\n\n" + SOURCE + SOURCE.replace("f(", "h("))
    assert [each.change for each in moved if find(each, [entry])] == [entry.change]


@pytest.mark.parametrize(
    "text",
    [
        '[[mutant]]\ninside = "f"\nline = "a"\nchange = "b"\neffect = "none"',
        '[[mutant]]\ninside = "f"\nline = "a"\nchange = "b"\neffect = "none"\nreason = ""',
        '[[mutant]]\ninside = "f"\nline = "a"\nchange = "b"\neffect = "some"\nreason = "c"',
        '[[mutant]]\ninside = "f"\nline = "a"\nchange = "b"\neffect = "none"\nreason = "c"\nx = 7',
    ],
)
def test_an_entry_of_the_list_has_to_say_all(tmp_path: Path, text: str) -> None:
    kept = tmp_path / "equivalent.toml"
    kept.write_text(text)
    with pytest.raises(ValueError, match=r"equivalent\.toml"):
        load(kept)


def test_an_entry_whose_line_has_changed_is_told() -> None:
    there = Equivalent("f", "if a < 3:", "a < 3 -> (a <= 3)", "none", "3 is never given")
    gone = there._replace(line="if a < 4:")
    assert stale(mutants(SOURCE), [there, gone]) == [gone]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small project: a module, and tests of which one knows it by a longer way."""
    files = {
        "package/__init__.py": "",
        "package/core.py": SOURCE,
        "tests/test_core.py": "from package.core import f\n",
        "tests/test_other.py": "import package\n",
    }
    for name, text in files.items():
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    return tmp_path


KNOWN = ["tests/test_core.py::test_a", "tests/test_core.py::test_b", "tests/test_other.py::test_c"]


@pytest.fixture
def reach(tree: Path) -> Reach:
    """The map of a run: line 1 when imported, line 2 by a and c, line 3 by b, line 4 never."""
    data = CoverageData(str(tree / "coverage.data"))
    for context, lines in [
        ("", [1]),
        (f"{KNOWN[0]}|run", [2]),
        (f"{KNOWN[1]}|run", [3]),
        (f"{KNOWN[2]}|setup", [2]),
        ("tests/test_core.py::test_failed|run", [3]),
    ]:
        data.set_context(context)
        data.add_lines({str(tree / "package/core.py"): lines})
    data.write()
    durations = tree / "seconds.json"
    durations.write_text(json.dumps(dict(zip(KNOWN, [0.3, 0.2, 0.1], strict=True))))
    return Reach.of_run(tree, tree / "coverage.data", durations)


def test_a_change_is_shown_to_the_tests_that_reach_its_lines_the_quickest_first(
    tree: Path, reach: Reach
) -> None:
    assert reach.tests(tree, "package/core.py", [2], KNOWN) == [KNOWN[2], KNOWN[0]]
    assert reach.tests(tree, "package/core.py", [2, 3], KNOWN) == KNOWN[::-1]


def test_what_runs_at_the_import_is_reached_by_all_that_reach_the_file(
    tree: Path, reach: Reach
) -> None:
    assert set(reach.tests(tree, "package/core.py", [1], KNOWN)) == set(KNOWN)


def test_what_nobody_reaches_is_shown_to_those_who_import_the_module(
    tree: Path, reach: Reach
) -> None:
    assert reach.tests(tree, "package/core.py", [4], KNOWN) == [KNOWN[1], KNOWN[0]]
    (tree / "package/new.py").write_text(SOURCE)
    assert reach.tests(tree, "package/new.py", [1], KNOWN) == []


def test_a_file_that_has_changed_since_is_reached_as_a_whole(tree: Path, reach: Reach) -> None:
    (tree / "package/core.py").write_text(f"\n{SOURCE}")
    assert set(reach.tests(tree, "package/core.py", [2], KNOWN)) == set(KNOWN)


def test_a_test_that_is_newer_is_asked_and_one_that_is_gone_is_not(
    tree: Path, reach: Reach
) -> None:
    known = [KNOWN[0], "tests/test_core.py::test_new", "tests/test_other.py::test_new"]
    assert reach.tests(tree, "package/core.py", [2], known) == [KNOWN[0], known[1]]


def test_a_map_is_kept(tree: Path, reach: Reach) -> None:
    reach.save(tree / "kept" / "reach.json")
    assert Reach.load(tree / "kept" / "reach.json") == reach


def test_a_trial_leaves_the_source_as_it_was_and_says_who_noticed(tmp_path: Path) -> None:
    project = tmp_path / "project"
    for name in ("eventstore", "tests"):
        (project / name).mkdir(parents=True)
        (project / name / "__init__.py").touch()
    core = project / "eventstore/core.py"
    core.write_text("def f(a):\n    b = a < 3\n    c = a > 100\n    return b\n")
    test = "from eventstore.core import f\n\ndef test_f():\n    assert f(2) and not f(3)\n"
    (project / "tests/test_core.py").write_text(test)
    tree = Tree(project, tmp_path / "copy")
    assert tree.collect(["tests"]) == ["tests/test_core.py::test_f"]
    what = {}
    for mutant in mutants(core.read_text()):
        if mutant.after in ("(a <= 3)", "(a >= 100)"):
            tests = ["tests/test_core.py::test_f"]
            what[mutant.after] = tree.attempt("eventstore/core.py", mutant, tests, 60).what
    assert what == {"(a <= 3)": "noticed", "(a >= 100)": "missed"}
    assert (tree.path / "eventstore/core.py").read_text() == core.read_text()


def test_what_takes_too_long_is_ended_with_all_that_it_has_started(tmp_path: Path) -> None:
    child = tmp_path / "child"
    inner = (
        "import os, pathlib, signal, time\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        f"pathlib.Path({str(child)!r}).write_text(str(os.getpid()))\n"
        "time.sleep(60)"
    )
    outer = (
        "import subprocess, sys\n"
        f"subprocess.Popen([sys.executable, '-c', {inner!r}], start_new_session=True).wait()"
    )
    status, _ = run([sys.executable, "-c", outer], tmp_path, dict(os.environ), 2.0)
    assert status is None
    deadline = time.monotonic() + 10
    while is_running(int(child.read_text())):
        assert time.monotonic() < deadline


def is_running(pid: int) -> bool:
    """Whether there is such a process, and it is not only waiting to be buried."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_program_says_what_it_takes() -> None:
    output = subprocess.run(
        [sys.executable, "-m", "tests.mutation", "--help"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for option in ("--seed", "--count", "--module", "--jobs", "--map"):
        assert option in output
