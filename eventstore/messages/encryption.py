"""Encryption of personal data inside an event's payload.

An object replaces the value in the payload, and the header `X-Personal` names the fields:

    {"customer_id": "c1", "email": {"$personal": {"v": 1, "key": "...", "nonce": "...",
     "data": "...", "forgotten": "[forgotten]"}}}

AES-256-GCM with a random nonce; `key` is the reference of the data subject's key. The event's id
and type, the field, the key's reference and the forgotten form are bound to the ciphertext as
associated data, so that it cannot be decrypted anywhere else. The forgotten form is stored with it,
so that a forgotten field can be read without its class.
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
from eventstore.messages.headers import Header
from eventstore.messages.personal import PersonalField, ref_of
from eventstore.messages.types import Event
from eventstore.messages.undecodable import UNDECODABLE

PERSONAL = "X-Personal"
"""The header that names the encrypted fields, and the reference of each one's key."""

_NONCE_BYTES = 12
_VERSION = 1

_encode = msgspec.json.Encoder().encode
_fields_of = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class DataKey(msgspec.Struct, frozen=True):
    """A data subject's key: 32 bytes, which `repr` does not show."""

    secret: bytes

    def __repr__(self) -> str:
        return "Key(...)"


class DestroyedKey(msgspec.Struct, frozen=True):
    """Replaces a key that was destroyed at `time` (RFC 3339)."""

    time: str


Keys = Mapping[str, DataKey | DestroyedKey]
"""Keys by their references."""

NO_KEYS: Keys = {}
"""For payloads without encrypted fields."""


class _Ciphertext(msgspec.Struct, frozen=True):
    v: int
    key: str
    nonce: bytes
    data: bytes
    forgotten: msgspec.Raw


class _Holder(msgspec.Struct, frozen=True):
    sealed: _Ciphertext = msgspec.field(name="$personal")


_holder_of = msgspec.json.Decoder(_Holder).decode


def check_available() -> None:
    """Raise `ConfigurationError` if the encryption library is not installed."""
    cipher_of(DataKey(bytes(32)))


def subjects_in(event: Event, fields: Iterable[PersonalField], aggregate_id: str) -> set[str]:
    """The data subjects whose keys encrypt an event; raises `InvalidPayload`."""
    return {
        field.subject_of(event, aggregate_id) for field in fields if not field.is_forgotten(event)
    }


def refs_in(headers: Mapping[str, str]) -> set[str]:
    """The references of the keys that decrypt an event."""
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

    `headers` are the event's, with at least its id, type and aggregate id. If a subject is
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
    """The payload with its personal data decrypted, or in its forgotten form.

    Raises `InvalidPayload` if it was changed or is another event's, `KeyMissing`,
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
    return msgspec.Raw(_encode(_Holder(_Ciphertext(_VERSION, ref, nonce, data, forgotten))))


def _opened(
    headers: Mapping[str, str], field: str, ref: str, value: msgspec.Raw, keys: Keys
) -> msgspec.Raw:
    where = f"payload of {headers[Header.EVENT_TYPE]}: personal data in {field}"
    try:
        sealed = _holder_of(value).sealed
    except UNDECODABLE as error:
        raise InvalidPayload(f"{where} are not encrypted as they should be: {error}") from error
    if sealed.v != _VERSION:
        raise UnsupportedSchema(
            f"{where} were encrypted in version {sealed.v} by a newer program; this code reads "
            f"version {_VERSION}: upgrade this program first"
        )
    if sealed.key != ref:
        raise InvalidPayload(f"{where} and the header {PERSONAL} name different keys")
    key = keys.get(ref)
    if key is None:
        raise KeyMissing(f"{where} cannot be decrypted: key {ref} is missing, though not forgotten")
    if isinstance(key, DestroyedKey):
        return msgspec.Raw(bytes(sealed.forgotten))
    bound = _bound(headers, field, ref, sealed.forgotten)
    return msgspec.Raw(_decrypted(where, key, sealed, bound))


def _decrypted(where: str, key: DataKey, sealed: _Ciphertext, bound: bytes) -> bytes:
    cipher = cipher_of(key)
    try:
        decrypted: bytes = cipher.decrypt(sealed.nonce, sealed.data, bound)
    except Exception as error:  # its type is in the library, which is imported only when needed
        raise InvalidPayload(
            f"{where} cannot be decrypted with their key: they were changed after they were "
            "recorded, or belong to another event"
        ) from error
    return decrypted


def _bound(headers: Mapping[str, str], field: str, ref: str, forgotten: msgspec.Raw) -> bytes:
    lines = (headers[Header.EVENT_ID], headers[Header.EVENT_TYPE], field, ref, "")
    return "\n".join(lines).encode() + bytes(forgotten)


def cipher_of(key: DataKey) -> Any:
    """AES-256-GCM with a key; raises `ConfigurationError` if the library is not installed."""
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError as error:
        raise ConfigurationError(
            "events with personal data need the library cryptography, which is not installed: "
            "install jetstream-eventstore[crypto]"
        ) from error
    return AESGCM(key.secret)
