"""The base classes of commands and events: frozen structs that know their own subject.

class CreateFlake(Command, subject="flake.create", creates=True):
    path: str

class FlakeCreated(Event, subject="flake.created"):
    path: str
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, ClassVar, dataclass_transform

import msgspec

from eventstore.errors import DeciderError
from eventstore.messages.personal import personal_fields
from eventstore.messages.subjects import check_name


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class MessageType(msgspec.StructMeta):
    """The metaclass of messages: makes them frozen, keyword-only, and names their subject."""

    def __new__(
        mcls,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        *,
        subject: str | None = None,
        schema_version: int = 1,
        since: int = 1,
        creates: bool = False,
        **options: Any,
    ) -> MessageType:
        """Make a message class; raises `InvalidSubject` or `DeciderError` for illegal arguments."""
        cls = super().__new__(mcls, name, bases, namespace, frozen=True, kw_only=True, **options)
        if subject is not None:
            aggregate, _, action = subject.partition(".")
            cls.__aggregate__ = check_name(f"aggregate of {name}", aggregate)
            cls.__action__ = check_name(f"action of {name}", action)
            if schema_version < 1:
                raise DeciderError(f"{name}: schema_version must be 1 or more")
            if not 1 <= since <= schema_version:
                raise DeciderError(f"{name}: since must be from 1 to its schema_version")
            cls.__schema_version__ = schema_version
            cls.__since__ = since
            cls.__creates__ = creates
            with suppress(NameError):  # of a type defined further down: checked when registered
                personal_fields(cls)
        return cls

    __aggregate__: str
    __action__: str
    __schema_version__: int
    __since__: int
    __creates__: bool


# Repeated, because mypy takes it from msgspec's base class and not from a metaclass.
@dataclass_transform(kw_only_default=True, field_specifiers=(msgspec.field,))
class Message(msgspec.Struct, metaclass=MessageType):
    """The base of commands, events and queries; not for direct use."""

    __aggregate__: ClassVar[str]
    __action__: ClassVar[str]
    __schema_version__: ClassVar[int]
    __since__: ClassVar[int]


class Command(Message, forbid_unknown_fields=True):
    """A request to change an aggregate; may be rejected.

    Class arguments: `subject="{aggregate}.{action}"`; `creates=True` if the command may come
    without an aggregate id, which is then derived from the command's own id. A payload with a
    field that the class does not have is refused.
    """

    __creates__: ClassVar[bool]


class Event(Message):
    """A fact about an aggregate; never changed once recorded.

    Class arguments: `subject="{aggregate}.{action}"`; `schema_version` (default 1), to be raised
    with every change of the fields that older readers or older events are not compatible with,
    together with an upcaster from the version before (see `eventstore.messages.upcasting`);
    `since` (default 1), the first version that was ever recorded. Fields of a payload that the
    class does not have are ignored on reading.
    """
