from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec
import pytest
from msgspec import Struct

from eventstore import nix
from eventstore.audit import TraceCorrelation
from eventstore.errors import DeciderError, InvalidSubject
from eventstore.messages.queries import MAX_ITEMS, Listed, ListQuery, Query

T = TypeVar("T")


class View(Struct, frozen=True):
    id: str


class GetThing(Query[View], subject="thing.get"):
    id: str


class ListThings(ListQuery[View], subject="thing.list"):
    name: str | None = None


def test_a_query_knows_its_subject_and_its_answer() -> None:
    assert (GetThing.__aggregate__, GetThing.__action__) == ("thing", "get")
    assert GetThing.__answer__ is View


def test_a_renamed_query_keeps_its_type_on_the_wire() -> None:
    assert (GetThing.__label__, TraceCorrelation.__label__) == ("GetThing", "TraceStory")
    assert {each.__label__ for each in nix.QUERIES} == {each.__name__ for each in nix.QUERIES}


def test_a_list_is_answered_in_parts_of_its_items() -> None:
    assert ListThings.__answer__ == Listed[View]
    assert (ListThings().limit, ListThings().after) == (50, None)
    read = msgspec.json.decode(b'{"items": [{"id": "a", "new": 1}]}', type=ListThings.__answer__)
    assert read == Listed(items=[View("a")], next=None)


def test_a_base_of_ones_own_hands_the_answer_on() -> None:
    class Paged(ListQuery[T], Generic[T]):
        mine: bool = False

    class ListMine(Paged[View], subject="thing.list_mine"):
        id: str

    assert ListMine.__answer__ == Listed[View]
    assert ListMine(id="a").mine is False


def test_a_query_without_an_answer_is_refused() -> None:
    with pytest.raises(DeciderError, match="GetNothing: name the type of its answer"):

        class GetNothing(Query, subject="thing.get_nothing"):  # type: ignore[type-arg]
            pass


def test_a_subject_that_is_not_legal_is_refused() -> None:
    with pytest.raises(InvalidSubject):

        class GetWrong(Query[View], subject="thing.Get"):
            pass


@pytest.mark.parametrize(
    ("payload", "named"),
    [
        (b'{"nmae": "x"}', "unknown field `nmae`"),
        (b'{"name": 7}', r"\$.name"),
        (b'{"limit": 0}', r"\$.limit"),
        (b'{"limit": 1001}', r"\$.limit"),
        (b'{"after": 7}', r"\$.after"),
    ],
)
def test_a_payload_that_does_not_fit_is_refused_by_the_fields_name(
    payload: bytes, named: str
) -> None:
    with pytest.raises(msgspec.ValidationError, match=named):
        msgspec.json.decode(payload, type=ListThings)


def test_the_nix_domain_has_its_fourteen_queries_and_one_across_all_flakes() -> None:
    subjects = [f"{query.__aggregate__}.{query.__action__}" for query in nix.QUERIES]
    assert sorted(subjects) == sorted(
        [
            *("flake.get", "flake.list", "flake.get_inputs", "input.list"),
            *("package.get", "package.list", "package.get_status"),
            *("module.get", "module.list", "overlay.get", "overlay.list"),
            *("config.get", "config.list", "config.get_current", "config.get_history"),
        ]
    )


@pytest.mark.parametrize("query", nix.QUERIES, ids=lambda query: query.__name__)
def test_every_field_and_every_view_says_what_it_is(query: type[Query[Any]]) -> None:
    assert query.__doc__
    described = msgspec.json.schema(query)["$defs"][query.__name__]["properties"]
    assert [name for name, schema in described.items() if not schema.get("description")] == []
    assert described.get("limit", {}).get("maximum") in (None, MAX_ITEMS)
