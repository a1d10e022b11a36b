"""The digest of a command is the same for the same command, and for no other."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, NamedTuple

import msgspec
import pytest
from msgspec import Raw, Struct

from eventstore.commands.digest import digest_of, is_other, without_data
from eventstore.messages.types import Command


class Line(Struct, frozen=True):
    sku: str
    count: int = 1


class Gift(Struct, frozen=True, tag=True):
    text: str = ""


class Card(Struct, frozen=True, tag=True):
    text: str = ""


class Order(Command, subject="order.place"):
    customer: str
    total: float = 0.0
    at: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    lines: tuple[Line, ...] = ()
    notes: dict[str, Any] = {}  # noqa: RUF012  # msgspec copies it
    tags: set[str] = set()  # noqa: RUF012
    extra: Gift | Card | None = None


class Cancel(Command, subject="order.cancel"):
    customer: str


class Longer(Command, subject="order.place"):
    """The same command as a later version of the code has it."""

    customer: str
    total: float = 0.0
    at: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    lines: tuple[Line, ...] = ()
    currency: str = "EUR"


class Size(Enum):
    SMALL = "s"
    LARGE = "l"


class Point(Struct, frozen=True):
    x: int = 0
    y: int = 0


def unique() -> str:
    return uuid.uuid4().hex


class Stamp(Struct, frozen=True):
    """One of its fields has a new default each time."""

    own: str = msgspec.field(default_factory=unique)
    n: int = 0


class MadeArray(Struct, frozen=True, array_like=True, tag=True):
    n: int = 0
    own: str = msgspec.field(default_factory=unique)


@dataclass(frozen=True)
class MadeData:
    own: str = dataclass_field(default_factory=unique)
    sizes: frozenset[Size] = frozenset()


class Pair(NamedTuple):
    a: int
    b: float = 0


def digest(payload: str, cls: type[Command] = Order, target: str = "o1", own: str = "c1") -> str:
    return digest_of(msgspec.json.decode(payload, type=cls), target, own)


LINES = '{"customer":"a","lines":[%s]}'
FULL = (
    '{"customer":"a","total":5,"lines":[{"sku":"x"},{"sku":"y","count":2}],"notes":{"a":1,"b":2}}'
)


@pytest.mark.parametrize(
    "same",
    [
        FULL,
        f"  {FULL} \n",
        '{"notes":{"b":2,"a":1},"lines":[{"count":1,"sku":"x"},{"count":2,"sku":"y"}],'
        '"total":5.0,"customer":"a"}',
        FULL.replace('"total":5', '"total":5e0,"tags":[],"extra":null'),
        FULL.replace('"a","total"', '"\\u0061","at":"2026-01-01T00:00:00+00:00","total"'),
    ],
)
def test_how_it_is_written_does_not_matter(same: str) -> None:
    assert digest(same) == digest(FULL)
    assert not is_other(digest(same), digest(FULL))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"customer":"a"}', '{"customer":"b"}'),
        ('{"customer":"a","total":1}', '{"customer":"a","total":2}'),
        (LINES % '{"sku":"x"}', LINES % '{"sku":"x","count":2}'),
        (LINES % '{"sku":"x"},{"sku":"y"}', LINES % '{"sku":"y"},{"sku":"x"}'),
        ('{"customer":"a","notes":{"a":1}}', '{"customer":"a","notes":{"a":true}}'),
        ('{"customer":"a","notes":{"a":"1"}}', '{"customer":"a","notes":{"a":1}}'),
        ('{"customer":"a","extra":{"type":"Gift"}}', '{"customer":"a","extra":{"type":"Card"}}'),
        ('{"customer":"a","extra":{"type":"Gift"}}', '{"customer":"a"}'),
    ],
)
def test_other_data_are_another_command(one: str, other: str) -> None:
    assert is_other(digest(one), digest(other))
    assert without_data(digest(one)) == without_data(digest(other))


def test_another_type_another_aggregate_and_another_id_are_another_command() -> None:
    own = digest('{"customer":"a"}')
    for other in (
        digest('{"customer":"a"}', Cancel),
        digest('{"customer":"a"}', target="o2"),
        digest('{"customer":"a"}', own="c2"),
    ):
        assert is_other(own, other)
        assert is_other(own, without_data(other))


def test_a_field_that_is_added_with_a_default_changes_nothing() -> None:
    for payload in ('{"customer":"a"}', '{"customer":"a","lines":[{"sku":"x"}]}'):
        assert digest(payload, Longer) == digest(payload)


def test_members_have_no_order() -> None:
    one, other = (Order(customer="a", tags=set(tags)) for tags in ("abcdefgh", "hgfedcba"))
    assert digest_of(one, "o1", "c1") == digest_of(other, "o1", "c1")


def test_what_has_no_digest_may_be_the_same() -> None:
    own = digest('{"customer":"a"}')
    assert not is_other(own, None)
    assert not is_other(None, own)
    assert not is_other(own, without_data(own))


def of(kind: Any, payload: str) -> str:
    """The digest of a command with one field of this type, as the worker makes it."""
    body = {"__annotations__": {"v": kind}, "__module__": __name__}
    meta: Any = type(Command)
    cls = meta("Go", (Command,), body, subject="thing.go")
    return digest_of(msgspec.json.decode(payload, type=cls), "o1", "c1", payload.encode())


@pytest.mark.parametrize(
    ("kind", "one", "same", "other"),
    [
        (dict[int, str], '{"1":"a","2":"b"}', '{"2":"b","1":"a"}', '{"1":"b","2":"a"}'),
        (dict[Size, int], '{"s":1,"l":2}', '{"l":2,"s":1}', '{"s":1}'),
        (dict[date, Point], '{"2026-01-01":{}}', '{"2026-01-01":{"x":0}}', '{"2026-01-02":{}}'),
        (dict[float, int], '{"1.5":1}', '{"1.50":1}', '{"1.25":1}'),
        (dict[str | int, int], '{"a":1,"2":2}', '{"2":2,"a":1}', '{"a":1,"2":3}'),
        (set[Size], '["s","l"]', '["l","s","s"]', '["l"]'),
        (set[Point], '[{"x":1},{"x":2}]', '[{"y":0,"x":2},{"x":1}]', '[{"x":1},{"y":2}]'),
        (set[int | str], '[1,"a"]', '["a",1]', '["1","a"]'),
        (set[int | None], "[1,null]", "[null,1]", "[1]"),
        (set[frozenset[int]], "[[0,8],[16]]", "[[16],[8,0]]", "[[0],[8,16]]"),
        (frozenset[uuid.UUID], f'["{uuid.UUID(int=1)}"]', f'["{uuid.UUID(int=1).hex}"]', "[]"),
        (Raw, '{"a":[1,2],"b":1}', '{ "b" : 1, "a" : [1, 2] }', '{"a":[2,1],"b":1}'),
        (Decimal, '"NaN"', ' "NaN"', '"1"'),
        (Pair, "[1]", "[1,0]", "[1,1]"),
        (MadeData, '{"sizes":["s","l"]}', '{"sizes":["l","s"]}', '{"sizes":["s"]}'),
        (list[Stamp], "[{},{}]", '[{"n":0},{}]', '[{"n":1},{}]'),
        (dict[int, Stamp], '{"1":{},"2":{}}', '{"2":{},"1":{}}', '{"1":{}}'),
        (dict[str, list[MadeArray]], '{"a":[["MadeArray"]]}', '{"a":[["MadeArray",0]]}', "{}"),
        (set[Stamp], '[{"n":1},{"n":2}]', '[{"n":2},{"n":1}]', '[{"n":1},{"own":"a"}]'),
        (Stamp | None, "{}", '{"n":0}', '{"own":"a"}'),
    ],
    ids=str,
)
def test_every_type_that_can_be_read_has_a_digest(
    kind: Any, one: str, same: str, other: str
) -> None:
    first, again, another = (of(kind, f'{{"v":{each}}}') for each in (one, same, other))
    assert again == first
    assert is_other(another, first)


def test_a_command_nested_deeper_than_can_be_put_in_order_is_identified_by_its_bytes() -> None:
    deep = '{"v":' + "[" * 700 + "]" * 700 + "}"
    assert of(Any, deep) == of(Any, deep)
    assert is_other(of(Any, deep), of(Any, deep.replace("[]", "[1]")))


def test_a_number_that_is_a_default_of_another_type_changes_nothing() -> None:
    class Price(Command, subject="order.price"):
        amount: float = 0

    assert digest('{"amount":0}', Price) == digest("{}", Price)


def test_an_expected_version_is_part_of_a_command() -> None:
    command, own = Cancel(customer="ann"), str(uuid.uuid4())
    plain = digest_of(command, "o1", own)
    assert digest_of(command, "o1", own, expected=None) == plain
    digests = [plain, *(digest_of(command, "o1", own, expected=each) for each in (0, 1))]
    assert len(set(digests)) == 3
    assert len(set(map(without_data, digests))) == 1
