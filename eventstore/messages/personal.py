"""Personal data: marks fields of an event as such, with their values once they are forgotten.

    class CustomerRegistered(Event, subject="customer.registered"):
        name: Annotated[str, Personal()]                        # about the aggregate itself
        phone: Annotated[str | None, Personal()]

    class OrderPlaced(Event, subject="order.placed"):
        customer_id: str
        address: Annotated[str, Personal(subject="customer_id")]
        age: Annotated[int, Personal(subject="customer_id", forgotten=0)]

These fields are encrypted in the log, with one key for each data subject. The keys are wrapped with
a master key that is not in NATS (`eventstore.client.master_keys`). When the subject is forgotten,
its key is destroyed for good: the events remain, their chain still verifies, and the fields are
read as their forgotten form: "[forgotten]" for text, None if that is allowed, otherwise the
declared one. So all readers, upcasters included, must accept that form.

A data subject is identified by its id alone, across all aggregates of a domain; the id stays
readable and so must not be personal itself. A value that equals its forgotten form is stored in
clear: so a decider can go on with the state of a forgotten subject, and a None is not hidden.

In clear, but erased with the key where it can be found (`eventstore.parking.erasure`): parked
messages that name the subject, and the texts of rejections and errors.

NOT protected: values recorded before their field was marked; commands while they wait, and
for a while after in the server's files; the texts of rejections and
errors that name neither the subject nor its aggregate; data derived by handlers (the rows of read
models until they are rebuilt, messages sent elsewhere); backups of the keys together with the
master key.
"""

from __future__ import annotations

import hashlib
import typing
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import msgspec

from eventstore.errors import DeciderError, InvalidPayload

FORGOTTEN = "[forgotten]"
"""The forgotten form of text, unless declared otherwise."""

_encode = msgspec.json.Encoder().encode


class Personal(msgspec.Struct, frozen=True):
    """Marks an event's field, in `Annotated`, as personal data.

    `subject` names the field of the same event that holds the data subject's id, a `str`; without
    it the subject is the aggregate. `forgotten` is the field's value once that is forgotten.
    """

    subject: str | None = None
    forgotten: Any = msgspec.UNSET


class PersonalField(msgspec.Struct, frozen=True):
    """A marked field: its name in Python and in the payload, and its forgotten form."""

    name: str
    key: str
    subject: str | None
    forgotten: Any

    def is_forgotten(self, event: msgspec.Struct) -> bool:
        """Whether the event has the forgotten form in this field, which is not encrypted."""
        value = getattr(event, self.name)
        return type(value) is type(self.forgotten) and bool(value == self.forgotten)

    def subject_of(self, event: msgspec.Struct, aggregate_id: str) -> str:
        """The id of the data subject; raises `InvalidPayload` if the event names none."""
        subject = aggregate_id if self.subject is None else getattr(event, self.subject)
        if not isinstance(subject, str) or not subject:
            raise InvalidPayload(
                f"payload of {type(event).__name__}: {self.name} is personal data, "
                f"but {self.subject} names no data subject"
            )
        return subject


def ref_of(subject: str) -> str:
    """The reference of a data subject's key: 32 hexadecimal digits.

    Raises `InvalidPayload` for text that UTF-8 cannot encode.
    """
    try:
        return hashlib.sha256(subject.encode()).hexdigest()[:32]
    except UnicodeEncodeError as error:
        raise InvalidPayload(f"data subject {subject!r}: {error}") from error


def personal_fields(cls: type[Any]) -> tuple[PersonalField, ...]:
    """The fields of a message that are marked.

    Raises `DeciderError` for a mark that cannot work, and `NameError` if the class's annotations
    cannot be resolved (yet).
    """
    message: Any = cls
    return _fields_of(message)


@lru_cache(maxsize=1_000)
def _fields_of(cls: Any) -> tuple[PersonalField, ...]:
    fields = msgspec.structs.fields(cls)
    for field in fields:
        inner = _unannotated(field.type) if _mark(field.type) else field.type
        if any(_marks_within(inner, set())):
            raise DeciderError(
                f"{cls.__name__}.{field.name}: Personal marks a field of an event, not a "
                "part of one: Annotated[..., Personal()] comes first"
            )
    return tuple(
        _checked(cls, field, mark, fields) for field in fields if (mark := _mark(field.type))
    )


def check_unmarked(cls: type[Any]) -> None:
    """Raise `DeciderError` for a command with marked fields: it would not be encrypted."""
    for field in personal_fields(cls):
        raise DeciderError(
            f"{cls.__name__}.{field.name}: only events are encrypted; a command's field cannot be "
            "marked as Personal"
        )


def _checked(
    cls: type[msgspec.Struct],
    field: msgspec.structs.FieldInfo,
    mark: Personal,
    fields: tuple[msgspec.structs.FieldInfo, ...],
) -> PersonalField:
    where = f"{cls.__name__}.{field.name}"
    if cls.__struct_config__.array_like:
        raise DeciderError(f"{where}: a payload that is an array cannot hold personal data")
    if not field.encode_name.isidentifier() or not field.encode_name.isascii():
        raise DeciderError(f"{where}: a personal field's name must be ASCII letters and digits")
    subjects = {
        each.name for each in fields if _unannotated(each.type) is str and not _mark(each.type)
    }
    if mark.subject is not None and mark.subject not in subjects:
        raise DeciderError(
            f"{where}: Personal(subject={mark.subject!r}) must name a field of {cls.__name__} "
            "that is a str and not personal itself"
        )
    return PersonalField(field.name, field.encode_name, mark.subject, _form(where, field, mark))


def _form(where: str, field: msgspec.structs.FieldInfo, mark: Personal) -> Any:
    form = mark.forgotten
    if form is msgspec.UNSET:
        inner = _unannotated(field.type)
        if type(None) in typing.get_args(inner):
            form = None
        elif inner is str:
            form = FORGOTTEN
        else:
            raise DeciderError(
                f"{where}: declare its value once forgotten, Personal(forgotten=...); only text "
                "and fields that may be None have a default"
            )
    try:
        return msgspec.json.decode(_encode(form), type=field.type)
    except (msgspec.MsgspecError, TypeError) as error:
        raise DeciderError(
            f"{where}: its forgotten form {form!r} does not fit the field: {error}; "
            "declare another, Personal(forgotten=...)"
        ) from error


def _mark(annotation: Any) -> Personal | None:
    marks = getattr(annotation, "__metadata__", ())
    return next((each for each in marks if isinstance(each, Personal)), None)


def _unannotated(annotation: Any) -> Any:
    return typing.get_args(annotation)[0] if hasattr(annotation, "__metadata__") else annotation


def _marks_within(annotation: Any, seen: set[Any]) -> Iterator[Personal]:
    """Marks inside a type, where they have no effect."""
    mark = _mark(annotation)
    if mark is not None:
        yield mark
    for inner in typing.get_args(annotation):
        yield from _marks_within(inner, seen)
    is_class = isinstance(annotation, type) and annotation.__module__ != "builtins"
    if is_class and annotation not in seen and getattr(annotation, "__annotations__", None):
        seen.add(annotation)
        for hint in typing.get_type_hints(annotation, include_extras=True).values():
            yield from _marks_within(hint, seen)
