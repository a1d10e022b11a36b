from __future__ import annotations

import msgspec
import pytest

from eventstore.errors import DeciderError, InvalidSubject
from eventstore.messages.types import Command, Event


class CreateThing(Command, subject="thing.create", creates=True):
    name: str
    size: int = 1


class ThingCreated(Event, subject="thing.created", schema_version=3):
    name: str


def test_a_message_knows_its_subject() -> None:
    assert (CreateThing.__aggregate__, CreateThing.__action__) == ("thing", "create")
    assert (ThingCreated.__aggregate__, ThingCreated.__action__) == ("thing", "created")


def test_a_message_knows_its_schema_version() -> None:
    assert (CreateThing.__schema_version__, ThingCreated.__schema_version__) == (1, 3)


def test_a_command_says_whether_it_creates() -> None:
    class RenameThing(Command, subject="thing.rename"):
        name: str

    assert CreateThing.__creates__
    assert not RenameThing.__creates__


def test_messages_are_frozen() -> None:
    with pytest.raises(AttributeError):
        CreateThing(name="a").name = "b"


def test_fields_are_given_by_name() -> None:
    with pytest.raises(TypeError):
        CreateThing("a")  # type: ignore[call-arg]
    assert CreateThing(name="a") == CreateThing(name="a", size=1)


def test_a_command_refuses_unknown_fields_and_an_event_ignores_them() -> None:
    payload = b'{"name":"a","colour":"red"}'

    with pytest.raises(msgspec.ValidationError, match="colour"):
        msgspec.json.decode(payload, type=CreateThing)
    assert msgspec.json.decode(payload, type=ThingCreated) == ThingCreated(name="a")


@pytest.mark.parametrize(
    "subject", ["", "thing", ".create", "thing.", "Thing.create", "thing.create.now", "thing.*"]
)
def test_an_illegal_subject_is_refused_when_the_class_is_made(subject: str) -> None:
    with pytest.raises(InvalidSubject, match="of Wrong"):

        class Wrong(Command, subject=subject):
            pass


def test_a_schema_version_is_1_or_more() -> None:
    with pytest.raises(DeciderError, match="Wrong: schema_version must be 1 or more"):

        class Wrong(Event, subject="thing.broken", schema_version=0):
            pass


@pytest.mark.parametrize("since", [0, 4])
def test_a_first_schema_version_is_not_after_the_last(since: int) -> None:
    with pytest.raises(DeciderError, match="Wrong: since must be from 1 to its schema_version"):

        class Wrong(Event, subject="thing.broken", schema_version=3, since=since):
            pass


def test_a_class_without_a_subject_is_a_base_for_others() -> None:
    class Named(Event):
        name: str

    class ThingNamed(Named, subject="thing.named"):
        pass

    assert not hasattr(Named, "__aggregate__")
    assert ThingNamed.__action__ == "named"
    assert ThingNamed(name="a").name == "a"
