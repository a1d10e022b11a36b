"""The digest of a command is the same for the same command, and for no other."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from msgspec import Struct

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
