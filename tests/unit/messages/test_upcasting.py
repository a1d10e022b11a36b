"""Upcasting: chains of pure functions from any old version to today's, checked at the start."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventstore.decider.decider import Decider
from eventstore.decider.domain import Domain
from eventstore.errors import DeciderError, InvalidPayload, UnknownType, UnsupportedSchema
from eventstore.messages.codec import Codec
from eventstore.messages.types import Event
from eventstore.messages.upcasting import Schema, Upcaster

Data = dict[str, Any]
Step = tuple[str, int, Any]


class Made(Event, subject="thing.made", schema_version=3):
    name: str
    size: int
    tags: list[str]


class Added(Event, subject="thing.added"):
    part: str


def same(data: Data) -> Data:
    return data


def none(data: Data) -> list[tuple[str, Data]]:
    return []


def step(
    name: str, version: int, to: Any = None, function: Callable[[Data], Any] | None = None
) -> Upcaster:
    default = none if isinstance(to, list) else same
    return Upcaster.of((name, version), to, function or default)


def codec_with(*steps: Upcaster, events: tuple[type[Event], ...] = (Made, Added)) -> Codec:
    return Codec("shop", [], events, steps)


def sized(data: Data) -> Data:
    return {**data, "size": len(data["name"])}


def tagged(data: Data) -> Data:
    data["tags"] = []
    return data


CHAIN = (step("Made", 1, function=sized), step("Made", 2, function=tagged))


# Reading


def test_an_old_event_goes_through_every_version_after_its_own() -> None:
    codec = codec_with(*CHAIN)
    assert codec.decode_event("Made", 1, b'{"name":"abc"}') == [Made(name="abc", size=3, tags=[])]
    assert codec.decode_event("Made", 2, b'{"name":"abc","size":7}') == [
        Made(name="abc", size=7, tags=[])
    ]
    assert codec.decode_event("Made", 3, b'{"name":"abc","size":7,"tags":["x"]}') == [
        Made(name="abc", size=7, tags=["x"])
    ]


def test_an_event_that_was_renamed_goes_on_from_the_version_named() -> None:
    codec = codec_with(
        *CHAIN,
        step("Built", 1, function=lambda data: {"title": data["called"]}),
        step("Built", 2, ("Made", 2), lambda data: {"name": data["title"], "size": 1}),
    )
    expected = [Made(name="n", size=1, tags=[])]
    assert codec.decode_event("Built", 1, b'{"called":"n"}') == expected
    assert codec.decode_event("Built", 2, b'{"title":"n"}') == expected


def test_an_event_that_was_split_is_read_as_its_parts_in_their_order() -> None:
    def taken_apart(data: Data) -> Iterator[tuple[str, Data]]:
        yield "Added", {"part": "first"}
        yield "Made", {"name": data["name"]}
        for part in data["parts"]:
            yield "Added", {"part": part}

    codec = codec_with(*CHAIN, step("Kit", 1, [("Made", 1), ("Added", 1)], taken_apart))
    assert codec.decode_event("Kit", 1, b'{"name":"ab","parts":["x","y"]}') == [
        Added(part="first"),
        Made(name="ab", size=2, tags=[]),
        Added(part="x"),
        Added(part="y"),
    ]


def test_an_event_that_was_dropped_is_read_as_none() -> None:
    assert codec_with(*CHAIN, step("Seen", 1, [])).decode_event("Seen", 1, b"") == []


def test_no_payload_counts_as_an_empty_object() -> None:
    codec = codec_with(*CHAIN, step("Noted", 1, ("Added", 1), lambda data: {"part": repr(data)}))
    assert codec.decode_event("Noted", 1, b"") == [Added(part="{}")]


def test_the_length_of_a_chain_has_no_bound() -> None:
    class Long(Event, subject="thing.long", schema_version=500):
        n: int

    def one_more(data: Data) -> Data:
        return {"n": data["n"] + 1}

    codec = codec_with(
        *(step("Long", version, function=one_more) for version in range(1, 500)), events=(Long,)
    )
    assert codec.decode_event("Long", 1, b'{"n":0}') == [Long(n=499)]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


class Grown(Event, subject="thing.grown", schema_version=6):
    kept: Any
    trail: list[str]


class Program:
    """Five upcasters of Grown, each to some later version, to an Added, to both, or to nothing."""

    def __init__(self, targets: list[list[Schema]], copies: int) -> None:
        self._targets = targets
        self._copies = copies

    def split(self, version: int, trail: list[str]) -> Iterator[tuple[Schema, list[str]]]:
        for schema in self._targets[version - 1]:
            for copy in range(self._copies):
                yield schema, [*trail, f"{version}.{copy}"]

    def upcasters(self) -> Iterator[Upcaster]:
        for version, targets in enumerate(self._targets, 1):
            yield step("Grown", version, targets, partial(self._upcast, version))

    def _upcast(self, version: int, data: Data) -> Iterator[tuple[str, Data]]:
        for (name, _), trail in self.split(version, data["trail"]):
            yield name, {**data, "trail": trail, "part": trail[-1]}

    def expected(self, version: int, trail: list[str], kept: Any) -> list[Event]:
        if version == 6:
            return [Grown(kept=kept, trail=trail)]
        events: list[Event] = []
        for (name, target), longer in self.split(version, trail):
            if name == "Added":
                events.append(Added(part=longer[-1]))
            else:
                events += self.expected(target, longer, kept)
        return events


@st.composite
def programs(draw: st.DrawFn) -> Program:
    def some(schema: Schema) -> list[Schema]:
        return [schema] * draw(st.integers(0, 1))

    targets = [
        some(("Grown", draw(st.integers(version + 1, 6)))) + some(("Added", 1))
        for version in range(1, 6)
    ]
    return Program(targets, draw(st.integers(1, 2)))


@given(program=programs(), start=st.integers(1, 6), kept=JSON)
@settings(deadline=None)
def test_a_chain_is_the_composition_of_its_steps(program: Program, start: int, kept: Any) -> None:
    codec = codec_with(*program.upcasters(), events=(Grown, Added))
    stored = codec.encode(Grown(kept=kept, trail=[]))
    assert codec.decode_event("Grown", start, stored) == program.expected(start, [], kept)


# Purity


def test_what_a_function_changes_or_keeps_reaches_no_other() -> None:
    seen: list[Data] = []
    shared: list[str] = ["shared"]

    def sharing(data: Data) -> Data:
        seen.append(data)
        return {"name": "n", "size": 1, "tags": shared}

    def split(data: Data) -> list[tuple[str, Data]]:
        return [("Made", data), ("Made", data)]

    def changing(data: Data) -> Data:
        data["tags"].append(f"{len(data['tags'])}")
        return data

    codec = codec_with(
        step("Kit", 1, ("Kit", 2), sharing),
        step("Kit", 2, [("Made", 1)], split),
        step("Made", 1, function=changing),
        step("Made", 2, function=changing),
    )
    first, second = codec.decode_event("Kit", 1, b'{"x":1}')
    seen[0]["x"] = 2
    assert first == second == Made(name="n", size=1, tags=["shared", "1", "2"])
    assert codec.decode_event("Kit", 1, b'{"x":1}') == [first, second]
    assert shared == ["shared"]
    assert seen[1] == {"x": 1}


# What cannot be read


def failing(data: Data) -> Any:
    raise KeyError("colour")


def forgetful(data: Data) -> None:
    data["size"] = 1


def undeclared(data: Data) -> list[tuple[str, Data]]:
    return [("Lost", data)]


def misshaped(data: Data) -> Any:
    return ["Made"]


def listing(data: Data) -> Any:
    return [("Made", [1])]


def nothing(data: Data) -> None:
    return None


def beyond_json(data: Data) -> Data:
    return {"name": object()}


@pytest.mark.parametrize(
    ("function", "to", "problem"),
    [
        (failing, None, "KeyError: 'colour'"),
        (forgetful, None, "made NoneType, not a dict"),
        (beyond_json, None, "TypeError"),
        (undeclared, [("Made", 2)], "made 'Lost', which is none of its targets"),
        (misshaped, [("Made", 2)], "ValueError: too many values to unpack"),
        (listing, [("Made", 2)], "made list, not a dict"),
        (nothing, [("Made", 2)], "'NoneType' object is not iterable"),
    ],
)
def test_an_upcaster_that_fails_is_named_with_what_it_was_given(
    function: Callable[[Data], Any], to: Any, problem: str
) -> None:
    codec = codec_with(step("Made", 1, to, function), CHAIN[1])
    with pytest.raises(InvalidPayload) as failure:
        codec.decode_event("Made", 1, b'{"name":"n"}')
    text = str(failure.value)
    assert text.startswith(f"payload of Made version 1, upcaster {function.__name__}: ")
    assert problem in text


@pytest.mark.parametrize("payload", [b"[]", b"7", b"{", b"\xff", b"[" * 200_000])
def test_what_was_no_object_is_refused(payload: bytes) -> None:
    with pytest.raises(InvalidPayload, match="payload of Made version 1"):
        codec_with(*CHAIN).decode_event("Made", 1, payload)


def test_what_does_not_fit_its_class_in_the_end_is_named_with_its_whole_path() -> None:
    codec = codec_with(
        step("Kit", 1, ("Made", 1), lambda data: {"name": "n"}),
        step("Made", 1, function=lambda data: {**data, "size": "large"}),
        CHAIN[1],
    )
    with pytest.raises(InvalidPayload) as failure:
        codec.decode_event("Kit", 1, b"{}")
    assert str(failure.value) == (
        "payload of Made, upcast from Kit version 1 by <lambda>, <lambda>, tagged: "
        "Expected `int`, got `str` - at `$.size`"
    )


def test_a_version_of_the_future_is_refused() -> None:
    codec = codec_with(*CHAIN, step("Kit", 1, []), step("Kit", 2, []))
    for name, latest in (("Made", 3), ("Kit", 2)):
        with pytest.raises(UnsupportedSchema) as refusal:
            codec.decode_event(name, 9, b"{}")
        assert str(refusal.value) == (
            f"{name} was written with schema version 9 by a newer program; "
            f"this code reads up to {latest}: upgrade this program first"
        )


def test_a_version_before_the_first_is_refused() -> None:
    class Late(Event, subject="thing.late", schema_version=3, since=2):
        pass

    codec = codec_with(step("Late", 2), events=(Late,))
    assert codec.decode_event("Late", 2, b"{}") == [Late()]
    with pytest.raises(UnsupportedSchema, match="says that no such event was ever recorded"):
        codec.decode_event("Late", 1, b"{}")


def test_a_type_that_never_was_is_unknown() -> None:
    with pytest.raises(UnknownType, match="'Lost' is not registered in shop"):
        codec_with(*CHAIN).decode_event("Lost", 1, b"{}")


# Checked when the program starts


@pytest.mark.parametrize(
    ("steps", "problem"),
    [
        ([], "Made is known up to schema version 3, but nothing leads on from versions 1, 2: add"),
        (
            [step("Made", 1)],
            "nothing leads on from version 2: add an upcaster, @upcasts('Made', 2)",
        ),
        (
            [step("Made", 2)],
            "nothing leads on from version 1: add an upcaster, @upcasts('Made', 1)",
        ),
        ([*CHAIN, step("Kit", 3, [])], "Kit is known up to schema version 3, but nothing leads"),
        ([*CHAIN, step("Made", 1, ("Made", 3))], "two upcasters begin at Made version 1"),
        ([*CHAIN, step("Made", 3)], "begins at Made version 3, but the class Made has version 3"),
        ([*CHAIN, step("Made", 9)], "begins at Made version 9"),
        ([*CHAIN, step("Added", 1, ("Made", 1))], "begins at Added version 1, but the class Added"),
        ([*CHAIN, step("Kit", 1, ("Made", 4))], "leads to Made version 4, but there is the class"),
        ([*CHAIN, step("Kit", 1)], "leads to Kit version 2, but there is neither such an event"),
        ([*CHAIN, step("Kit", 1, ("Lost", 1))], "leads to Lost version 1, but there is neither"),
        ([*CHAIN, step("Kit", 1, [("Made", 1), ("Lost", 1)])], "leads to Lost version 1"),
        (
            [*CHAIN, step("Kit", 1, ("Set", 1)), step("Set", 1, ("Kit", 1))],
            "form a cycle: Kit version 1 -> Set version 1 -> Kit version 1",
        ),
        (
            [step("Made", 1), step("Made", 2, ("Made", 1))],
            "form a cycle: Made version 1 -> Made version 2 -> Made version 1",
        ),
        (
            [*CHAIN, step("Kit", 1, [("Added", 1), ("Kit", 1)])],
            "form a cycle: Kit version 1 -> Kit version 1",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_lead_to_today_is_found_at_the_start(
    steps: list[Upcaster], problem: str
) -> None:
    with pytest.raises(DeciderError) as refusal:
        codec_with(*steps)
    assert problem in str(refusal.value)


def test_a_class_may_say_since_when_there_is_something_to_read() -> None:
    class Late(Event, subject="thing.late", schema_version=2, since=2):
        pass

    assert codec_with(events=(Late,)).event_types == [Late]
    with pytest.raises(DeciderError, match="Late has version 2 since 2: there is nothing"):
        codec_with(step("Late", 1), events=(Late,))


async def asynchronous(data: Data) -> Data:
    return data


class Asynchronous:
    async def __call__(self, data: Data) -> Data:
        return data


@pytest.mark.parametrize(
    ("source", "to", "function", "problem"),
    [
        (("Made", 0), None, same, "('Made', 0) is not a type's name and a version"),
        (("Made", "1"), None, same, "is not a type's name and a version"),
        (("Kit", 1), ["Made"], none, "'Made' is not a type's name and a version"),
        (("Kit", 1), [("Made", 1), ("Made", 2)], none, "leads to two versions of one type"),
        (("Made", 1), None, asynchronous, "upcaster asynchronous: is async"),
        (("Made", 1), None, partial(asynchronous), "upcaster asynchronous: is async"),
        (("Made", 1), None, Asynchronous(), "upcaster Asynchronous: is async"),
        (("Made", 1), None, partial(Asynchronous()), "upcaster Asynchronous: is async"),
        (("Made", 1), None, dict, "must take the data of Made version 1 alone"),
        (("Made", 1), None, lambda data, more: {}, "must take the data of Made version 1 alone"),
    ],
)
def test_what_is_no_upcaster_is_refused(
    source: Any, to: Any, function: Callable[..., Any], problem: str
) -> None:
    with pytest.raises(DeciderError) as refusal:
        Upcaster.of(source, to, function)
    assert problem in str(refusal.value)


# As a user declares them

thing: Decider[list[str]] = Decider("thing", initial=list)


@thing.evolves
def made(state: list[str], event: Made | Added) -> list[str]:
    return [*state, type(event).__name__]


@thing.upcasts("Made", 1)
def with_size(data: Data) -> Data:
    return {**data, "size": 0}


@thing.upcasts("Made", 2)
def with_tags(data: Data) -> Data:
    return {**data, "tags": []}


@thing.upcasts("Kit", 1, to=[("Made", 3), ("Added", 1)])
def kit(data: Data) -> Iterator[tuple[str, Data]]:
    yield "Added", {"part": "p"}


def test_a_domain_reads_with_the_upcasters_of_its_deciders_also_under_another_name() -> None:
    for domain in (Domain("shop", [thing]), Domain("shop", [thing]).renamed("other")):
        assert domain.codec.decode_event("Made", 1, b'{"name":"n"}') == [
            Made(name="n", size=0, tags=[])
        ]
        assert domain.codec.decode_event("Kit", 1, b"{}") == [Added(part="p")]


def test_a_function_that_upcasts_stays_a_function() -> None:
    assert with_size({"name": "n"}) == {"name": "n", "size": 0}
    assert [upcaster.name for upcaster in thing.upcasters] == ["with_size", "with_tags", "kit"]


def test_a_domain_with_a_gap_does_not_start() -> None:
    class Later(Event, subject="gap.later", schema_version=2):
        pass

    gap: Decider[list[str]] = Decider("gap", initial=list)
    gap._evolves[Later] = lambda state, event: state
    with pytest.raises(DeciderError, match="Later is known up to schema version 2"):
        Domain("shop", [thing, gap])


def test_two_deciders_cannot_lead_on_from_the_same_version() -> None:
    other: Decider[list[str]] = Decider("other", initial=list)
    other.upcasts("Kit", 1, to=[])(none)
    with pytest.raises(DeciderError, match="two upcasters begin at Kit version 1: kit and none"):
        Domain("shop", [thing, other])
