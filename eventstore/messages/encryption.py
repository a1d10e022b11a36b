"""Sealing: personal data inside an event's payload, encrypted and opened again.

In the payload an object stands for the value, and the header `X-Personal` says for which fields:

    {"customer_id": "c1", "email": {"$personal": {"v": 1, "key": "...", "nonce": "...",
     "data": "...", "forgotten": "[forgotten]"}}}

AES-256-GCM with a random nonce; `key` is what the data subject's key is filed under. Bound to the
ciphertext are the event's id, its type, the field, the key and the forgotten form, so that it opens
nowhere else. What is needed to read a forgotten field stands there too: no class need remember it.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

from eventstore.errors import (
    ConfigurationError,
    InvalidHeader,
    InvalidPayload,
    KeyMissing,
    SubjectForgotten,
    UnsupportedSchema,
)
from eventstore.messages.envelope import Header
from eventstore.messages.personal import PersonalField, ref_of
from eventstore.messages.types import Event
from eventstore.undecodable import UNDECODABLE

__all__ = [
    "NO_KEYS",
    "PERSONAL",
    "DataKey",
    "Forgotten",
    "Keys",
    "check_available",
    "cipher_of",
    "refs_in",
    "seal",
    "subjects_in",
    "unseal",
]

PERSONAL = "X-Personal"
"""The header that names the sealed fields, and what the key of each is filed under."""

_NONCE_BYTES = 12
_VERSION = 1

_encode = msgspec.json.Encoder().encode
_fields_of = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class DataKey(msgspec.Struct, frozen=True):
    """A data subject's key: 32 bytes, which no text of it shows."""

    secret: bytes

    def __repr__(self) -> str:
        return "Key(...)"


class Forgotten(msgspec.Struct, frozen=True):
    """Stands where a key was destroyed; `time` (RFC 3339) is when."""

    time: str


Keys = Mapping[str, DataKey | Forgotten]
"""The keys at hand, by what they are filed under."""

NO_KEYS: Keys = {}
"""For where nothing is sealed."""


class _Sealed(msgspec.Struct, frozen=True):
    v: int
    key: str
    nonce: bytes
    data: bytes
    forgotten: msgspec.Raw


class _Holder(msgspec.Struct, frozen=True):
    sealed: _Sealed = msgspec.field(name="$personal")


_holder_of = msgspec.json.Decoder(_Holder).decode


def check_available() -> None:
    """Raise `ConfigurationError` where the library that encrypts is not installed."""
    cipher_of(DataKey(bytes(32)))


def subjects_in(event: Event, fields: Iterable[PersonalField], aggregate_id: str) -> set[str]:
    """The data subjects whose keys it takes to seal an event; raises `InvalidPayload`."""
    return {
        field.subject_of(event, aggregate_id) for field in fields if not field.is_forgotten(event)
    }


def refs_in(headers: Mapping[str, str]) -> set[str]:
    """What the keys that it takes to open an event are filed under."""
    return {pair.partition("=")[2] for pair in headers.get(PERSONAL, "").split()}


def seal(
    event: Event,
    payload: bytes,
    headers: dict[str, str],
    fields: Iterable[PersonalField],
    keys: Keys,
    *,
    forgotten: Literal["refuse", "replace"] = "refuse",
) -> tuple[bytes, dict[str, str]]:
    """The payload and headers of an event with its personal data encrypted.

    `headers` are its own, with the event's and the aggregate's id and the type. Where a subject is
    forgotten, raises `SubjectForgotten`, or replaces the value by its forgotten form.
    """
    data = _fields_of(payload)
    names = []
    for field in fields:
        if field.key not in data or field.is_forgotten(event):
            continue
        subject = field.subject_of(event, headers[Header.AGGREGATE_ID])
        ref = ref_of(subject)
        key = keys[ref]
        form = msgspec.Raw(_encode(field.forgotten))
        if isinstance(key, DataKey):
            data[field.key] = _sealed(headers, field.key, ref, key, data[field.key], form)
            names.append(f"{field.key}={ref}")
        elif forgotten == "replace":
            data[field.key] = form
        else:
            raise SubjectForgotten(subject, key.time, type(event).__name__, field.name)
    headers = {name: value for name, value in headers.items() if name != PERSONAL}
    return _encode(data), headers | ({PERSONAL: " ".join(names)} if names else {})


def unseal(payload: bytes, headers: Mapping[str, str], keys: Keys) -> bytes:
    """The payload with its personal data in clear, or in its forgotten form.

    Raises `InvalidPayload` where it was changed or comes from another event, `KeyMissing`,
    `InvalidHeader` or `UnsupportedSchema`.
    """
    try:
        data = _fields_of(payload)
    except UNDECODABLE as error:
        raise InvalidPayload(f"payload of {headers[Header.EVENT_TYPE]}: {error}") from error
    for pair in headers[PERSONAL].split():
        name, _, ref = pair.partition("=")
        if name not in data:
            raise InvalidHeader(PERSONAL, f"names {name[:80]!r}, which the payload does not have")
        data[name] = _opened(headers, name, ref, data[name], keys)
    return _encode(data)


def _sealed(
    headers: Mapping[str, str],
    field: str,
    ref: str,
    key: DataKey,
    value: msgspec.Raw,
    forgotten: msgspec.Raw,
) -> msgspec.Raw:
    nonce = secrets.token_bytes(_NONCE_BYTES)
    bound = _bound(headers, field, ref, forgotten)
    data = cipher_of(key).encrypt(nonce, bytes(value), bound)
    return msgspec.Raw(_encode(_Holder(_Sealed(_VERSION, ref, nonce, data, forgotten))))


def _opened(
    headers: Mapping[str, str], field: str, ref: str, value: msgspec.Raw, keys: Keys
) -> msgspec.Raw:
    where = f"payload of {headers[Header.EVENT_TYPE]}: personal data in {field}"
    try:
        sealed = _holder_of(value).sealed
    except UNDECODABLE as error:
        raise InvalidPayload(f"{where} are not sealed as they should be: {error}") from error
    if sealed.v != _VERSION:
        raise UnsupportedSchema(
            f"{where} were sealed in version {sealed.v} by a newer program; this code reads "
            f"version {_VERSION}: upgrade this program first"
        )
    if sealed.key != ref:
        raise InvalidPayload(f"{where} and the header {PERSONAL} name different keys")
    key = keys.get(ref)
    if key is None:
        raise KeyMissing(f"{where} cannot be opened: key {ref} is gone, though nobody forgot it")
    if isinstance(key, Forgotten):
        return msgspec.Raw(bytes(sealed.forgotten))
    bound = _bound(headers, field, ref, sealed.forgotten)
    return msgspec.Raw(_decrypted(where, key, sealed, bound))


def _decrypted(where: str, key: DataKey, sealed: _Sealed, bound: bytes) -> bytes:
    cipher = cipher_of(key)
    try:
        decrypted: bytes = cipher.decrypt(sealed.nonce, sealed.data, bound)
    except Exception as error:  # of a library that is imported only where it is needed
        raise InvalidPayload(
            f"{where} do not open with their key: they were changed after they were recorded, "
            "or belong to another event"
        ) from error
    return decrypted


def _bound(headers: Mapping[str, str], field: str, ref: str, forgotten: msgspec.Raw) -> bytes:
    lines = (headers[Header.EVENT_ID], headers[Header.EVENT_TYPE], field, ref, "")
    return "\n".join(lines).encode() + bytes(forgotten)


def cipher_of(key: DataKey) -> Any:
    """AES-256-GCM with a key; raises `ConfigurationError` where the library is not installed."""
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError as error:
        raise ConfigurationError(
            "events with personal data need the library cryptography, which is not installed: "
            "install jetstream-eventstore[crypto]"
        ) from error
    return AESGCM(key.secret)
