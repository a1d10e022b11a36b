"""The fields of any query, written on the command line, and answers of any type printed."""

from __future__ import annotations

import inspect
from datetime import date
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Annotated, Any, Literal

import msgspec
import pytest
import typer
from msgspec import Meta, Struct
from typer.testing import CliRunner

from eventstore.cli.commands.query import commands_of
from eventstore.cli.options import as_command
from eventstore.cli.query.answers import Output
from eventstore.cli.query.fields import field_parameters, take_query
from eventstore.client.queries import QueryAnswer
from eventstore.errors import InvalidId, InvalidPayload
from eventstore.messages.queries import Listed, ListQuery, Query


class Kind(Enum):
    SINGLE = "single"
    DOUBLE = "double"


class Floor(IntEnum):
    GROUND = 0
    TOP = 9


class Span(Struct):
    low: int
    high: int = 5


class Required(Query[int], subject="room.find"):
    number: Annotated[int, Meta(ge=1)]
    kind: Kind
    floor: Floor
    day: date
    price: Decimal
    rate: float
    free: bool
    span: Span
    tags: list[str]


class Optional(ListQuery[str], subject="room.list"):
    kind: Kind = Kind.SINGLE
    floor: Literal[1, 2] = 1
    day: date = date(2030, 1, 2)
    price: Decimal | None = None
    rate: float = 0.5
    free: bool | None = True
    only: bool = False
    span: Span | None = None
    tags: list[str] = msgspec.field(default_factory=lambda: ["new"])
    floors: tuple[int, ...] = (1, 2)
    shares: dict[str, float] = msgspec.field(default_factory=dict)
    either: int | str = 1
    class_: str = msgspec.field(name="class", default="first")


class Taken(Query[int], subject="room.odd"):
    session: str = ""
    json: str = ""
    timeout: int = 0
    wait_for: int = 0
    wait: int = 0
    every: bool = False
    given: str = ""
    config: str = ""
    help: str = ""


class Own(Query[int], subject="book.get"):
    id: str


class Aggregate(Query[int], subject="room.get"):
    id: Annotated[str, Meta(pattern="^[a-z]+$")]


def asked(query: type[Query[Any]], *words: str) -> Query[Any]:
    found: list[Query[Any]] = []

    def ask(**given: Any) -> None:
        found.append(take_query(query, given))

    ask.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        field_parameters(query, ["--json", "--timeout"])
    )
    app = typer.Typer()
    app.command()(as_command(ask))
    ended = CliRunner().invoke(app, words)
    if isinstance(ended.exception, InvalidPayload | InvalidId):
        raise ended.exception
    assert ended.exit_code == 0, ended.output
    return found[0]


REQUIRED = ["7", "double", "9", "2030-01-02", "3.99", "2.5", "no", '{"low": 3}', "--tags", "a"]


def test_required_fields_are_of_their_types() -> None:
    assert asked(Required, *REQUIRED, "--tags", "b") == Required(
        number=7,
        kind=Kind.DOUBLE,
        floor=Floor.TOP,
        day=date(2030, 1, 2),
        price=Decimal("3.99"),
        rate=2.5,
        free=False,
        span=Span(3),
        tags=["a", "b"],
    )


def test_fields_that_are_not_given_have_their_defaults() -> None:
    assert asked(Optional) == Optional()


@pytest.mark.parametrize(
    ("words", "made"),
    [
        ("--kind double --floor 2", Optional(kind=Kind.DOUBLE, floor=2)),
        ("--day 2031-01-01 --price 1.50", Optional(day=date(2031, 1, 1), price=Decimal("1.50"))),
        ("--rate 2 --only yes --free any", Optional(rate=2.0, only=True, free=None)),
        ("--free no --limit 3", Optional(free=False, limit=3)),
        ("--tags a --tags b --floors 3", Optional(tags=["a", "b"], floors=(3,))),
        ('--span {"low":1}', Optional(span=Span(1))),
        ('--shares {"a":0.5}', Optional(shares={"a": 0.5})),
        ("--either x --class third", Optional(either="x", class_="third")),
    ],
)
def test_options_are_of_their_types(words: str, made: Optional) -> None:
    assert asked(Optional, *words.split()) == made


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("--kind treble", "query Optional: Invalid enum value 'treble'"),
        ("--day soon", "query Optional: Invalid RFC3339 encoded date"),
        ("--floors x", r"query Optional: Expected `int`, got `str` - at `\$.floors\[0\]`"),
        ('--span {"lo":1}', "query Optional: Object missing required field `low`"),
    ],
)
def test_what_is_not_of_a_field_s_type_is_refused(words: str, problem: str) -> None:
    with pytest.raises(InvalidPayload, match=problem):
        asked(Optional, *words.split())


def test_an_id_is_of_its_own_query_s_type() -> None:
    assert asked(Own, "ISBN 0-306") == Own(id="ISBN 0-306")
    with pytest.raises(InvalidId, match=r"aggregate id 'a\.b' is not allowed"):
        asked(Aggregate, "a.b")


def shown(query: type[Query[Any]], *words: str) -> str:
    app = commands_of([query])
    place = (query.__aggregate__, query.__action__)
    return CliRunner(env={"COLUMNS": "80"}).invoke(app, [*place, *words]).output


def test_a_field_that_is_called_as_another_option_has_one_of_its_own() -> None:
    out = shown(Taken, "--help")
    own = ["json", "timeout", "wait", "config", "help"]
    assert all(f"  --field-{name} " in out for name in own), out
    assert all(f"  --{name} " in out for name in ("session", "wait-for", "every", "given", *own))


def test_help_shows_choices_and_defaults() -> None:
    out = shown(Optional, "--help")
    assert "--kind single|double" in out
    assert "[default: single]" in out
    assert "[default: 2030-01-02]" in out
    assert "NODEFAULT" not in out
    assert "One of single|double." in shown(Required, "--help")
    assert "is not JSON" in shown(Required, *REQUIRED[:7], "{", "--tags", "a")


@pytest.mark.parametrize(
    ("answer", "lines"),
    [
        (5, ["value  5"]),
        (["a", "b"], ["value  a, b"]),
        ({"a": 1}, ["a  1"]),
        ([Span(1)], ["value", "  low   1", "  high  5"]),
        (Kind.DOUBLE, ["value  double"]),
        ({}, []),
        (Listed(items=["a", "b"]), ["value", "a", "b"]),
        (Listed(items=[{"kind": "x"}, {"kind": "y"}]), ["kind", "x", "y"]),
    ],
)
def test_any_answer_is_printed(
    capsys: pytest.CaptureFixture[str], answer: object, lines: list[str]
) -> None:
    assert Output(json=False).show(QueryAnswer(answer, 4))
    assert [each.rstrip() for each in capsys.readouterr().out.splitlines()[:-1]] == lines
