from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from itertools import takewhile

import pytest

import eventstore
import projections
from eventstore import errors
from eventstore.errors import (
    BatchTooLarge,
    CommandTimeout,
    Conflict,
    EventStoreError,
    EventTooLarge,
    InvalidHeader,
    JetStreamError,
    PoisonEvent,
    QueryRefused,
    QueryTimeout,
    Rejected,
    StreamDrift,
    UnreadableEvent,
)

CLASSES = {
    name: cls
    for name, cls in vars(errors).items()
    if inspect.isclass(cls) and issubclass(cls, EventStoreError)
}
LINE = re.compile(r"(?P<indent>[│├└─ ]*)(?P<name>[A-Za-z]+)(?: {2,}(?P<meaning>.+))?")


def tree_in_docstring() -> dict[str, str | None]:
    """Each class of the tree in the module's docstring, and the class it hangs on."""
    assert errors.__doc__ is not None
    _, _, tree = errors.__doc__.partition("\n\n")
    parents: dict[str, str | None] = {}
    path: list[str] = []
    for line in takewhile(bool, tree.splitlines()):
        found = LINE.fullmatch(line)
        assert found is not None, line
        depth = len(found["indent"]) // 4
        path = [*path[:depth], found["name"]]
        parents[found["name"]] = path[-2] if depth else None
    return parents


def test_the_tree_is_drawn_as_it_is() -> None:
    real = {
        name: None if cls is EventStoreError else cls.__bases__[0].__name__
        for name, cls in CLASSES.items()
    }

    assert tree_in_docstring() == real


def test_the_order_of_the_drawing_is_the_order_of_the_code() -> None:
    """Each module has a part of the drawing, in one piece."""
    written = [
        classes_in(found.name)
        for found in pkgutil.iter_modules(errors.__path__, "eventstore.errors.")
    ]
    written.sort(key=lambda names: list(tree_in_docstring()).index(names[0]))

    assert [name for names in written for name in names] == list(tree_in_docstring())


def classes_in(module: str) -> list[str]:
    """The names of the classes that a module defines, in its order."""
    return [
        name
        for name, cls in vars(importlib.import_module(module)).items()
        if inspect.isclass(cls) and cls.__module__ == module
    ]


def subclasses(cls: type) -> Iterator[type]:
    direct: list[type] = type.__subclasses__(cls)
    for each in direct:
        yield each
        yield from subclasses(each)


def test_every_exception_of_the_library_is_in_the_tree() -> None:
    """Or is private to the module that raises and catches it."""
    for package in (eventstore, projections):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not found.name.endswith("__main__"):
                importlib.import_module(found.name)

    outside = {
        f"{cls.__module__}.{cls.__qualname__}"
        for cls in subclasses(BaseException)
        if re.match(r"(eventstore|projections)(\.|$)", cls.__module__)
        and cls not in CLASSES.values()
    }

    assert outside == {"eventstore.store.id_index._LogReplaced"}


def test_everything_is_exported() -> None:
    assert sorted(CLASSES) == sorted(errors.__all__)
    assert sorted(errors.__all__) == errors.__all__


def test_every_error_has_a_code_of_its_own() -> None:
    # A rejection's code is the domain's, and its instance's; a query's "timeout" is its contract;
    # a poison event is how a projection fails.
    shared = (Rejected, QueryTimeout, PoisonEvent)
    codes = [cls.code for cls in CLASSES.values() if cls not in shared]

    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch("[a-z_]+", code) for code in codes)


@pytest.mark.parametrize("cls", CLASSES.values())
def test_every_error_says_what_it_is(cls: type[EventStoreError]) -> None:
    assert cls.__doc__
    assert isinstance(cls.retryable, bool)


def test_what_may_be_tried_again() -> None:
    assert {name for name, cls in CLASSES.items() if cls.retryable} == {
        "AppendUnknown",
        "CommandTimeout",
        "Conflict",
        "ConnectFailed",
        "ConnectionLost",
        "DatabaseUnavailable",
        "InvalidAnswer",
        "NoLeader",
        "NoResponders",
        "OwnedElsewhere",
        "PullLost",
        "SubscriberLost",
        "QueryTimeout",
        "QueueFull",
        "RequestTimeout",
        "SchemaBusy",
        "ServiceBusy",
        "WaitTimeout",
    }


def test_a_rejection_carries_the_domains_own_code() -> None:
    rejected = Rejected("input_exists", "it does")

    assert (rejected.code, rejected.message, str(rejected)) == (
        "input_exists",
        "it does",
        "it does",
    )


def test_a_refused_query_carries_the_services_code() -> None:
    refused = QueryRefused("invalid_payload", "no such field")

    assert (refused.code, refused.message) == ("invalid_payload", "no such field")
    assert str(refused) == "no such field (invalid_payload)"


def test_a_conflict_says_what_was_expected_and_what_was_found() -> None:
    known, unknown = Conflict("flake", "f1", 3, 5), Conflict("flake", "f1", 3, None)

    assert "flake f1 was expected at version 3, but is at 5" in str(known)
    assert "is at another one" in str(unknown)
    assert (known.aggregate, known.aggregate_id) == ("flake", "f1")
    assert (known.expected, known.actual, unknown.actual) == (3, 5, None)


def test_drift_names_each_setting() -> None:
    drift = StreamDrift("NIX_LOG", {"max_age": (0, 60), "discard": ("new", "old")})

    assert "discard is 'old', declared 'new'; max_age is 60, declared 0" in str(drift)
    assert "Nothing was changed" in str(drift)
    assert (drift.stream, set(drift.differences)) == ("NIX_LOG", {"max_age", "discard"})


def test_sizes_are_told() -> None:
    event, batch = (
        EventTooLarge("FlakeCreated", "message", 2_000_000, 1_048_576),
        BatchTooLarge(5, 4),
    )

    assert str(event).startswith("the message of FlakeCreated would have 2,000,000 bytes")
    assert (event.part, event.size, event.limit) == ("message", 2_000_000, 1_048_576)
    assert event.event_type == "FlakeCreated"
    assert (batch.count, batch.limit) == (5, 4)
    assert "5 events" in str(batch)


def test_an_unreadable_event_is_named_with_its_cause() -> None:
    cause = InvalidHeader("X-Domain", "is missing")
    error = UnreadableEvent(42, "nix.log.flake.f1", cause)

    assert str(error) == f"event at position 42 (nix.log.flake.f1): {cause}"
    assert (error.position, error.subject, error.cause) == (42, "nix.log.flake.f1", cause)


def test_other_errors_with_fields() -> None:
    header = InvalidHeader("X-Domain", "is missing")
    stream = JetStreamError(10071, 400, "wrong last sequence")
    timeout = CommandTimeout("c1", 2.5)

    assert (header.header, str(header)) == ("X-Domain", "header X-Domain is missing")
    assert (stream.err_code, stream.status) == (10071, 400)
    assert stream.description in str(stream)
    assert not stream.retryable
    assert JetStreamError(10008, 503, "temporarily unavailable").retryable
    assert (timeout.command_id, timeout.seconds) == ("c1", 2.5)
    assert "after 2.5 s" in str(timeout)
