"""The anchor: a small document that lets an outsider prove later that no older event changed.

It holds the fold over the first so many events of a log. Whoever keeps it (who need not be able
to read the log) can have the fold computed again. It can be signed with an nkey (Ed25519), such as
`nk -gen user` makes: the public key in the document only says which one was used; that it is the
right one, the outsider must know from elsewhere.
"""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from typing import Any, Literal

import msgspec
import nkeys  # type: ignore[import-untyped]
from nacl.exceptions import CryptoError
from nacl.signing import VerifyKey

from eventstore.audit.finding import Finding
from eventstore.audit.log_digest import LogDigest
from eventstore.errors import ConfigurationError, InvalidAnchor
from eventstore.messages.codec import Codec
from eventstore.messages.envelope import format_timestamp
from eventstore.undecodable import UNDECODABLE

__all__ = ["Anchor", "AnchorCheck", "public_key"]


class Anchor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the first `events` events of a log were, at a time.

    `root` is the fold over them, `marks` the fold at some places on the way. `key` and
    `signature` are there where it is signed.
    """

    format: Literal["eventstore-anchor"] = "eventstore-anchor"
    format_version: Literal[1] = 1
    domain: str
    stream: str
    time: str
    events: int
    aggregates: int
    last_event_id: str
    last_chain: str
    root: str
    marks: dict[int, str]
    key: str | None = None
    signature: str | None = None

    @classmethod
    def of(cls, codec: Codec, fold: LogDigest, time: datetime) -> Anchor:
        """The anchor of a log that was verified."""
        return cls(
            domain=codec.domain,
            stream=codec.subjects.log_stream,
            time=format_timestamp(time),
            events=fold.events,
            aggregates=fold.aggregates,
            last_event_id=fold.last_event_id,
            last_chain=fold.last_chain,
            root=fold.root,
            marks=fold.marks,
        )

    @classmethod
    def from_json(cls, document: bytes) -> Anchor:
        """Read the document; raises `InvalidAnchor`."""
        try:
            return msgspec.json.decode(document, type=cls)
        except UNDECODABLE as error:
            raise InvalidAnchor(f"it is not an anchor, or a garbled one: {error}") from error

    def to_json(self) -> bytes:
        """The document, for people too."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n"

    def signed(self, seed: bytes) -> Anchor:
        """The anchor signed with an nkey; raises `ConfigurationError` where `seed` is none."""
        named = msgspec.structs.replace(self, key=public_key(seed), signature=None)
        signature = _pair(seed).sign(named._signed_bytes())
        return msgspec.structs.replace(named, signature=base64.b64encode(signature).decode())

    def check_signature(self, expected: str | None = None) -> None:
        """Raise `InvalidAnchor` for a bad signature, or one that is not by the `expected` key.

        Without `expected`, an anchor that is not signed passes, and a signature proves only that
        the document is as whoever signed it left it.
        """
        if expected is not None and self.key != expected:
            signer = "not signed" if self.key is None else f"signed by {self.key}"
            raise InvalidAnchor(f"it is {signer}, and {expected} was expected")
        if self.key is None and self.signature is None:
            return
        if not _is_signature(self.key or "", self._signed_bytes(), self.signature or ""):
            raise InvalidAnchor(f"the signature is not by {self.key}, or something was changed")

    def check_log(self, codec: Codec) -> None:
        """Raise `InvalidAnchor` unless it is of the log of the codec's domain."""
        if (self.domain, self.stream) != (codec.domain, codec.subjects.log_stream):
            raise InvalidAnchor(f"it is of domain {self.domain}, and this is {codec.domain}")

    def _signed_bytes(self) -> bytes:
        return msgspec.json.encode(msgspec.structs.replace(self, signature=None))


class AnchorCheck:
    """Compares an anchor with the fold of a log, on the way through it."""

    def __init__(self, anchor: Anchor) -> None:
        self._anchor = anchor
        self._expected = {**anchor.marks, anchor.events: anchor.root}
        self._same = 0
        self._differs: tuple[int, int] | None = None

    def see(self, fold: LogDigest, position: int) -> None:
        """Take note of the fold after the event at a position."""
        expected = self._expected.get(fold.events)
        if expected is None or self._differs is not None:
            return
        if expected == fold.root:
            self._same = fold.events
        else:
            self._differs = (fold.events, position)

    def findings(self, fold: LogDigest, position: int) -> list[Finding]:
        """What is to be said at the end of the log."""
        found = []
        if self._differs is not None:
            number, place = self._differs
            found.append(self._finding(self._difference(number), place))
        if fold.events < self._anchor.events:
            text = (
                f"the anchor of {self._anchor.time} is of {self._anchor.events:,} events, and the "
                f"log has only {fold.events:,}, of which {self._known()} to be the same: "
                "events were removed, or it is another log"
            )
            found.append(self._finding(text, position))
        return found

    def _difference(self, number: int) -> str:
        return (
            f"the first {number:,} events are not those of the anchor of {self._anchor.time}: "
            f"{self._known()} to be the same, so the first that differs is one of events "
            f"{self._same + 1:,} to {number:,}"
        )

    def _known(self) -> str:
        return f"the first {self._same:,} are known" if self._same else "none is known"

    def _finding(self, text: str, position: int) -> Finding:
        return Finding(kind="anchor", text=text, position=position)


def public_key(seed: bytes) -> str:
    """The public key that goes with an nkey's seed; raises `ConfigurationError` if it is none."""
    key: bytes = _pair(seed).public_key
    return key.decode()


def _pair(seed: bytes) -> Any:
    try:
        pair = nkeys.from_seed(bytearray(seed.strip()))
        pair.sign(b"")
    except (nkeys.NkeysError, ValueError):
        raise ConfigurationError("there is no nkey seed to sign with") from None  # it may show it
    return pair


def _is_signature(key: str, signed: bytes, signature: str) -> bool:
    try:
        VerifyKey(_raw_key(key)).verify(signed, base64.b64decode(signature, validate=True))
    except (CryptoError, ValueError, TypeError):
        return False
    return True


def _raw_key(key: str) -> bytes:
    """The 32 bytes in an nkey's public key; raises `ValueError` where it is none."""
    try:
        raw = base64.b32decode(key)
    except binascii.Error as error:
        raise ValueError(str(error)) from error
    checksum: Any = nkeys.crc16_checksum(raw[:-2])
    if len(raw) != 35 or raw[-2:] != checksum or not nkeys.valid_public_prefix_byte(raw[0]):
        raise ValueError(f"{key[:80]!r} is no public nkey")
    return raw[1:-2]
