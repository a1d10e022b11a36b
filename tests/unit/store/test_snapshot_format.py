"""Snapshots round-trip, and anything else is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from types import ModuleType
from typing import Any, ClassVar, Generic, TypeVar
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventstore.decider.decider import Decider
from eventstore.decider.state_shape import shape_of
from eventstore.errors import UnusableSnapshot
from eventstore.nix import domain
from eventstore.store.command_filter import CommandFilter
from eventstore.store.head import Head
from eventstore.store.snapshots.format import Snapshot, SnapshotFormat
from tests.unit.nix.test_nix_sequences import commands, run

HEAD = Head(position=12, version=7, chain="ab" * 32, event_id="e")


class Account(msgspec.Struct, frozen=True):
    balance: int = 0
    notes: dict[str, str] = {}


def format_of(initial: Callable[[], Any] = Account, name: str = "account", version: int = 1):  # type: ignore[no-untyped-def]
    return SnapshotFormat(Decider(name, initial=initial, state_version=version))


def snapshot(state: object = None, head: Head = HEAD) -> Snapshot:
    known = CommandFilter.empty()
    known.add("a command")
    return Snapshot(Account(5, {"a": "ü🦀"}) if state is None else state, head, known)


def test_a_snapshot_is_read_as_it_was_written() -> None:
    read = format_of().decode("a1", format_of().encode("a1", snapshot()))
    assert read.state == snapshot().state
    assert read.head == HEAD
    assert "a command" in read.commands
    assert "another" not in read.commands


@pytest.mark.parametrize("aggregate", ["flake", "package", "module", "overlay", "config"])
@given(data=st.data())
@settings(deadline=None, max_examples=40)
def test_a_fold_from_a_snapshot_equals_the_full_fold(aggregate: str, data: st.DataObject) -> None:
    decider = domain().decider(aggregate)
    state, history = run(decider, data.draw(commands(decider)))
    taken = data.draw(st.sets(st.integers(0, len(history)), max_size=4))

    form = SnapshotFormat(decider)
    folded = decider.initial()
    for number, event in enumerate(history):
        if number in taken:
            folded = form.decode("a", form.encode("a", snapshot(folded))).state
        folded = decider.evolve(folded, event)
    assert folded == state == decider.fold(history)
    assert type(folded) is type(state)


@given(st.data())
def test_any_change_of_any_byte_is_seen(data: st.DataObject) -> None:
    written = bytearray(format_of().encode("a1", snapshot()))
    place = data.draw(st.integers(0, len(written) - 1))
    written[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(UnusableSnapshot):
        format_of().decode("a1", bytes(written))


@given(st.data())
def test_a_part_of_one_is_refused(data: st.DataObject) -> None:
    written = format_of().encode("a1", snapshot())
    with pytest.raises(UnusableSnapshot):
        format_of().decode("a1", written[: data.draw(st.integers(0, len(written) - 1))])


@given(st.binary(max_size=200))
def test_garbage_is_refused(garbage: bytes) -> None:
    for data in (garbage, b"eventstore snapshot 1\n" + garbage):
        with pytest.raises(UnusableSnapshot):
            format_of().decode("a1", data)


class Renamed(msgspec.Struct, frozen=True):
    total: int = 0


class Extended(msgspec.Struct, frozen=True):
    balance: int = 0
    notes: dict[str, str] = {}
    currency: str = "EUR"  # would be read without complaint, and yet be wrong


@pytest.mark.parametrize(
    ("other", "problem", "is_expected"),
    [
        (format_of(version=2), "version 1, not 2", True),
        (format_of(Renamed), "other fields", True),
        (format_of(Extended), "other fields", True),
        (format_of(dict), "other fields", True),
        (format_of(name="order"), "it is a snapshot of account a1", False),
    ],
    ids=["version", "renamed", "extended", "type", "aggregate"],
)
def test_a_snapshot_of_other_code_is_refused(
    other: SnapshotFormat, problem: str, is_expected: bool
) -> None:
    with pytest.raises(UnusableSnapshot, match=problem) as caught:
        other.decode("a1", format_of().encode("a1", snapshot()))
    assert caught.value.is_expected is is_expected


def test_one_of_another_aggregate_is_refused() -> None:
    with pytest.raises(UnusableSnapshot, match="it is a snapshot of account a1"):
        format_of().decode("a2", format_of().encode("a1", snapshot()))


def test_one_of_another_format_is_refused() -> None:
    written = format_of().encode("a1", snapshot())
    with pytest.raises(UnusableSnapshot, match="it has format '2'") as caught:
        format_of().decode("a1", written.replace(b"snapshot 1\n", b"snapshot 2\n", 1))
    assert caught.value.is_expected


def test_one_of_no_event_is_refused() -> None:
    for head in (Head(0, 1, "c", "e"), Head(1, 0, "c", "e"), Head(-1, 1, "c", "e")):
        written = format_of().encode("a1", snapshot(head=head))
        with pytest.raises(UnusableSnapshot, match="not an event"):
            format_of().decode("a1", written)


class Loose(msgspec.Struct, frozen=True):
    anything: Any = None


def deep() -> list[Any]:
    inner: list[Any] = []
    for _ in range(100_000):
        inner = [inner]
    return inner


@pytest.mark.parametrize(
    "state",
    [
        Loose((1, 2)),
        Loose(float("nan")),
        Loose(object()),
        Loose("\ud800"),
        Loose(2**100),
        Loose(deep()),
        Account(balance="much"),  # type: ignore[arg-type]
        "no account",
    ],
    ids=["tuple", "nan", "object", "surrogate", "large", "deep", "mistyped", "other type"],
)
def test_a_state_that_would_come_back_as_another_is_not_written(state: object) -> None:
    form = format_of(Loose if isinstance(state, Loose) else Account)
    with pytest.raises(UnusableSnapshot, match="the state"):
        form.encode("a1", snapshot(state))


WRITER = """
from eventstore.decider.decider import Decider
from eventstore.store.command_filter import CommandFilter
from eventstore.store.snapshots.format import Snapshot, SnapshotFormat
from eventstore.store.head import Head
import msgspec

class Sets(msgspec.Struct, frozen=True):
    names: frozenset[str] = frozenset({"a", "b", "c", "d", "e"})

form = SnapshotFormat(Decider("account", initial=Sets))
"""


def test_a_snapshot_is_readable_by_another_process() -> None:
    """Though sets, and so the defaults in the description of a type, have an order in each."""
    own: dict[str, Any] = {}
    exec(WRITER, own)  # noqa: S102  # the same program there and here
    written = own["form"].encode("a1", snapshot(own["Sets"]()))
    reader = WRITER + (
        "properties = msgspec.json.schema(Sets)['$defs']['Sets']['properties']\n"
        "print(properties['names']['default'])\n"
        f"assert form.decode('a1', {written!r}).state == Sets()"
    )
    orders = {
        subprocess.run(
            [sys.executable, "-c", reader],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(orders) == 2


def shaped(fields: str, nested: str = "size: int = 1") -> str:
    """The shape of a state with these fields, and of a struct inside it with those."""
    module = ModuleType("shaped")  # which msgspec looks up to understand the annotations
    sys.modules["shaped"] = module
    program = f"""
import enum, decimal
from typing import *
from msgspec import Struct, field
class Kind(enum.Enum):
    A = 1
class Inner(Struct, frozen=True):
    {nested}
class State(Struct, frozen=True):
    {fields}
"""
    exec(program, vars(module))  # noqa: S102  # types that differ in one thing and are named alike
    return shape_of(module.State)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a: int = 0", "b: int = 0"),
        ("a: int = 0", "a: int = 1"),
        ("a: int = 0", "a: float = 0"),
        ("a: int = 0", "a: int | None = 0"),
        ("a: list[int] = []", "a: set[int] = set()"),
        ("a: list[int] = []", "a: list[str] = []"),
        ("a: tuple[int, ...] = ()", "a: frozenset[int] = frozenset()"),
        (
            "a: Any = field(default_factory=lambda: [1])",
            "a: Any = field(default_factory=lambda: [2])",
        ),
        ("a: Literal['x'] = 'x'", "a: Literal['x', 'y'] = 'x'"),
        ("a: str = ''; b: str = ''", "b: str = ''; a: str = ''"),
        ("a: str = ''", "a: decimal.Decimal = decimal.Decimal(0)"),
        ("a: Kind = Kind.A", "a: int = 1"),
        ("a: Inner = Inner(1)", "a: Inner = Inner(2)"),
    ],
)
def test_the_shape_is_that_of_all_fields_types_and_defaults(one: str, other: str) -> None:
    assert shaped(one) == shaped(one)
    assert shaped(one) != shaped(other)


@pytest.mark.parametrize(
    "held", ["Inner", "list[Inner]", "dict[str, Inner]", "tuple[Inner, ...] | None"]
)
@pytest.mark.parametrize(
    "nested",
    ["size: int = 2", "size: float = 1", "width: int = 1", "size: int = 1; b: str = ''"],
)
def test_the_shape_is_that_of_nested_types_too(held: str, nested: str) -> None:
    assert shaped(f"a: {held}") != shaped(f"a: {held}", nested)


class Tree(msgspec.Struct, frozen=True):
    left: Tree | None = None
    right: Tree | None = None


def test_a_recursive_type_has_a_shape() -> None:
    form = format_of(Tree)
    written = form.encode("a1", snapshot(Tree(Tree(), None)))
    assert form.decode("a1", written).state == Tree(Tree(), None)


T = TypeVar("T")


class Box(msgspec.Struct, Generic[T], frozen=True):
    value: T


class Boxed(msgspec.Struct, frozen=True):
    box: Box[int] | None = None
    others: tuple[Box[str], ...] = ()


def test_generic_types_have_a_shape() -> None:
    form = format_of(Boxed)
    state = Boxed(Box(1), (Box("a"),))
    assert form.decode("a1", form.encode("a1", snapshot(state))).state == state
    shapes = {shape_of(kind) for kind in (Box[int], Box[str], Box[Box[int]], Boxed)}
    assert len(shapes) == 4


class Guarded(msgspec.Struct, frozen=True):
    currency: str = "eur"
    known: ClassVar[dict[str, int]] = {"eur": 2}

    def __post_init__(self) -> None:
        self.known[self.currency]


def test_a_snapshot_that_the_states_code_rejects_is_unusable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = format_of(Guarded).encode("a1", snapshot(Guarded()))
    form = format_of(lambda: Guarded())
    monkeypatch.setattr(Guarded, "known", {"usd": 2})
    with pytest.raises(UnusableSnapshot, match="it cannot be read: KeyError"):
        form.decode("a1", written)


class Zoned(msgspec.Struct, frozen=True):
    at: Any = None
    counts: dict[str, int] = {}


@pytest.mark.parametrize(
    "state",
    [
        Zoned(counts=Counter("aab")),
        Zoned(at=datetime(2024, 10, 27, 1, 30, tzinfo=timezone(timedelta(hours=2)))),
        Account(balance=True),
    ],
)
def test_an_equal_state_that_decides_otherwise_is_not_written(state: msgspec.Struct) -> None:
    with pytest.raises(UnusableSnapshot, match=r"\$\.(at|counts|balance)"):
        format_of(type(state)).encode("a1", snapshot(state))


class Timed(msgspec.Struct, frozen=True):
    at: datetime | None = None


@pytest.mark.parametrize(
    ("at", "is_kept"),
    [
        (datetime(2024, 10, 27, 1, 30, tzinfo=UTC), True),
        (datetime(2024, 10, 27, 1, 30, tzinfo=timezone(timedelta(hours=2))), False),
        (datetime(2024, 10, 27, 1, 30, tzinfo=ZoneInfo("UTC")), False),
    ],
)
def test_only_times_in_utc_round_trip(at: datetime, is_kept: bool) -> None:
    form = format_of(Timed)
    if is_kept:
        assert form.decode("a1", form.encode("a1", snapshot(Timed(at)))).state == Timed(at)
    else:
        with pytest.raises(UnusableSnapshot, match="at"):
            form.encode("a1", snapshot(Timed(at)))
