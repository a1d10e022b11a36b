from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Column, ColumnElement, Integer, MetaData, String, Table

from eventstore.errors import InvalidPayload
from eventstore.messages.queries import ListQuery
from eventstore.nix import GetFlakeInputs, ListFlakes, ListModules
from eventstore.projections.database.tables import UtcDateTime
from eventstore.projections.queries import cursor
from projections.models import flake, module

BY = (flake.c.path, flake.c.id)


def decoded(query: ListQuery[Any], by: Sequence[ColumnElement[Any]]) -> tuple[Any, ...]:
    return cursor.decode(query, by, cursor.types(by, [False] * len(by)))


texts = st.text(st.characters(blacklist_categories=["Cs"]))


@given(path=texts, id_=texts, prefix=st.none() | texts)
def test_a_cursor_decodes_to_its_sort_key(path: str, id_: str, prefix: str | None) -> None:
    query = ListFlakes(path_prefix=prefix)
    made = cursor.encode(query, BY, [path, id_])
    again = ListFlakes(path_prefix=prefix, limit=7, after=made)
    assert decoded(again, BY) == (path, id_)


def test_numbers_and_times_come_back_as_what_they_were() -> None:
    table = Table(
        "visit",
        MetaData(),
        Column("at", UtcDateTime),
        Column("number", Integer),
        Column("name", String),
    )
    values = (datetime(2026, 1, 2, tzinfo=UTC), 7, "x")
    by = (table.c.at, table.c.number, table.c.name)
    made = cursor.encode(ListFlakes(), by, values)
    assert decoded(ListFlakes(after=made), by) == values


@given(after=texts)
def test_garbage_is_refused(after: str) -> None:
    with pytest.raises(InvalidPayload, match=r"^after: .* is not a cursor of this list"):
        decoded(ListFlakes(after=after), BY)


@given(place=st.integers(0, 1_000), character=st.sampled_from("abcXYZ019-_=.é"))
def test_a_cursor_that_was_changed_is_refused(place: int, character: str) -> None:
    made = cursor.encode(ListFlakes(), BY, ["./path", "id1"])
    place %= len(made) - 1  # the last one may have bits that say nothing
    changed = made[:place] + character + made[place + 1 :]
    if changed != made:
        with pytest.raises(InvalidPayload):
            decoded(ListFlakes(after=changed), BY)


def test_that_of_another_list_or_of_other_filters_is_refused() -> None:
    made = cursor.encode(ListFlakes(path_prefix="a"), BY, ["ab", "id1"])
    for other in (ListFlakes(after=made), ListFlakes(path_prefix="b", after=made)):
        with pytest.raises(InvalidPayload, match="with these filters"):
            decoded(other, BY)
    with pytest.raises(InvalidPayload):
        decoded(ListModules(after=made), (module.c.name, module.c.id))
    inputs = GetFlakeInputs(id="a")
    made = cursor.encode(inputs, (flake.c.path,), ["x"])
    with pytest.raises(InvalidPayload):
        decoded(GetFlakeInputs(id="b", after=made), (flake.c.path,))
