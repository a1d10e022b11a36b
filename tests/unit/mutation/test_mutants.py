"""The mutator: each mutation is one change, of the kind it says, that can be compiled."""

from __future__ import annotations

import ast
import textwrap
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.mutation.core import CORE, core_modules
from tests.mutation.mutants import Mutant, apply, mutants

PROJECT = Path(__file__).parents[3]


def changed(source: str) -> list[str]:
    """What each mutation makes of the source."""
    text = textwrap.dedent(source)
    return [apply(text, mutant) for mutant in mutants(text)]


# A source of one line, and what must be among what is made of it.
KINDS: dict[str, tuple[str, list[str]]] = {
    "a boundary": ("a = b < c", ["a = (b <= c)", "a = (b >= c)"]),
    "one of two comparisons": ("a = 0 <= b < 9", ["a = (0 < b < 9)", "a = (0 <= b <= 9)"]),
    "equality": ("a = b == c", ["a = (b != c)"]),
    "identity": ("a = b is not c", ["a = (b is c)"]),
    "membership": ("a = b in c", ["a = (b not in c)"]),
    "a number": ("a = f(2)", ["a = f(3)", "a = f(1)"]),
    "a truth value": ("a = f(True)", ["a = f(False)"]),
    "a text": ("a = f('b')", ["a = f('bx')"]),
    "bytes": ("a = f(b'b')", ["a = f(b'bx')"]),
    "and": ("a = b and c", ["a = (b or c)", "a = (b)", "a = (c)"]),
    "or": ("a = b or c or d", ["a = (b and c and d)", "a = (b or d)"]),
    "not": ("a = not b", ["a = (b)"]),
    "plus": ("a = b + c", ["a = (b - c)"]),
    "a union": ("a = isinstance(b, int | str)", ["a = isinstance(b, (int))"]),
    "a keyword argument": ("a = f(b, c=d, e=g)", ["a = f(b, e=g)", "a = f(b, c=d)"]),
    "the last argument": ("a = f(b, c)", ["a = f(b)"]),
    "the less of two": ("a = min(b, c)", ["a = max(b, c)"]),
    "a call": ("f(b)", ["pass"]),
    "an attribute that is set": ("a.b = c", ["pass"]),
    "a sum": ("a += b", ["pass"]),
    "an error": ("raise KeyError(a)", ["pass"]),
    "a choice": ("a = b if c else d", ["a = b if (not (c)) else d"]),
    "an element": ("a = (b, c)", ["a = ((c,))", "a = ((b,))"]),
    "an element that is looked for": ("a = b in (c, d)", ["a = b in ((d,))"]),
    "a condition of a comprehension": (
        "a = [b for b in c if b > d]",
        ["a = [b for b in c if (b >= d)]"],
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_change_is_made(kind: str) -> None:
    source, expected = KINDS[kind]
    assert set(expected) <= set(changed(source))


def test_conditions_and_returns_are_changed() -> None:
    found = changed("def f(a):\n    if a:\n        return a\n    while a:\n        break\n")
    assert "def f(a):\n    if (not (a)):\n        return a\n    while a:\n        break\n" in found
    assert "def f(a):\n    if a:\n        return None\n    while a:\n        break\n" in found
    assert "def f(a):\n    if a:\n        return a\n    while (not (a)):\n        break\n" in found
    assert "def f(a):\n    if a:\n        return a\n    while a:\n        continue\n" in found


def test_what_is_caught_is_widened_and_narrowed() -> None:
    found = changed("try:\n    a()\nexcept (KeyError, OSError):\n    b()\n")
    for caught in ("Exception", "((OSError,))", "((KeyError,))"):
        assert f"try:\n    a()\nexcept {caught}:\n    b()\n" in found


def test_statements_at_any_depth_are_changed() -> None:
    source = """
        class A:
            async def f(self):
                async with a:
                    for b in c:
                        try:
                            pass
                        except KeyError:
                            match d:
                                case 1:
                                    removed()
    """
    assert any("removed" not in each for each in changed(source))


def test_a_mutation_says_in_which_function_of_which_class_it_is() -> None:
    source = "class A:\n    def f(self, a=1):\n        if a:\n            g(2)\nb(3)\n"
    assert [each.inside for each in mutants(source) if each.after == "pass"] == ["A.f", ""]


def test_what_keeps_its_results_is_reached_by_its_head_which_runs_at_the_import() -> None:
    source = "@lru_cache(maxsize=9)\ndef f(a):\n    if a:\n        return g(2)\n"
    assert {each.lines for each in mutants(source) if each.line > 2} == {(2, 2)}


LEFT_ALONE = [
    '"""A docstring."""',
    "import a",
    "__all__ = ['a', 'b']",
    "a: int = b",
    "def f(a: Literal['b'] = c) -> Literal[1, 2]: pass",
    "_logger.warning('a %s', b, exc_info=True)",
    "raise_ = f'{a + 1}'",
    "a = 0.5",
    "class A(B, frozen=True): pass",
    "if TYPE_CHECKING:\n    a = 1",
    "assert a is not None",
    "A = TypeVar('A', bound=int)",
    "a, b = c, d",
    "a = f(b, timeout=c)",
]


@pytest.mark.parametrize("source", LEFT_ALONE)
def test_what_no_promise_hangs_on_is_left_alone(source: str) -> None:
    assert changed(source) == []


def test_of_an_error_only_whether_it_is_raised_is_changed() -> None:
    assert changed("raise KeyError('a', 1 + 1)") == ["pass"]


def test_positions_are_right_behind_characters_of_several_bytes() -> None:
    assert "a = 'ä☃'; b = (c <= d)\n" in changed("a = 'ä☃'; b = c < d\n")


def test_a_mutation_says_what_and_where_it_is() -> None:
    source = "def f(a):\n    return g(\n        a, 7\n    )\n"
    (mutant,) = [each for each in mutants(source) if each.after == "8"]
    assert (mutant.line, mutant.text, mutant.lines) == (3, "a, 7", (2, 4))
    assert mutant.inside == "f"
    assert str(mutant) == "constant changed: 7 -> 8"


def test_a_condition_is_reached_by_its_own_lines_and_not_by_what_depends_on_it() -> None:
    source = "if (\n    a\n    and b\n):\n    c()\n    d()\n"
    assert {each.lines for each in mutants(source) if "and" in each.kind} == {(1, 4)}


MODULES = core_modules(PROJECT)


@cache
def of_core(name: str) -> tuple[str, list[Mutant]]:
    source = (PROJECT / name).read_text()
    return source, mutants(source)


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(MODULES), st.randoms(use_true_random=False))
def test_every_mutation_of_the_core_can_be_compiled_and_differs(name: str, choice: object) -> None:
    source, found = of_core(name)
    mutant = found[choice.randrange(len(found))]  # type: ignore[attr-defined]
    mutated = apply(source, mutant)
    assert ast.dump(ast.parse(mutated)) != ast.dump(ast.parse(source))
    assert source.encode()[mutant.start : mutant.end].decode() == mutant.before


def test_every_name_of_the_core_is_one_of_a_module() -> None:
    ends = {end for end in CORE for name in MODULES if f"/{name}".endswith(f"/{end}.py")}
    assert (ends, len(MODULES)) == (set(CORE), len(CORE))
