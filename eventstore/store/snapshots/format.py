"""The snapshot format: a state, and all that is needed to verify it.

A line that names the format, a checksum over that line and the body, and the body as MessagePack.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from msgspec import Struct

from eventstore.decider.decider import Decider
from eventstore.decider.state_shape import shape_of
from eventstore.errors import UnusableSnapshot
from eventstore.messages.fidelity import difference
from eventstore.messages.undecodable import UNDECODABLE
from eventstore.store.command_filter import CommandFilter
from eventstore.store.head import Head

_NAME = b"eventstore snapshot "
_FORMAT = b"1"
_CHECKSUM = hashlib.sha256().digest_size


class Snapshot(Struct, frozen=True, eq=False):
    """An aggregate's folded state, its head, and the ids of the commands up to there."""

    state: Any
    head: Head
    commands: CommandFilter


class _SnapshotRecord(Struct, frozen=True):
    """The body of a snapshot; `shape` is a hash of the state's type."""

    aggregate: str
    aggregate_id: str
    state_version: int
    shape: str
    head: Head
    state: bytes
    commands: CommandFilter


_encode = msgspec.msgpack.Encoder().encode
_decode_record = msgspec.msgpack.Decoder(_SnapshotRecord).decode


class SnapshotFormat:
    """Encodes and decodes the snapshots of one decider's aggregates."""

    def __init__(self, decider: Decider[Any]) -> None:
        state = type(decider.initial())
        self._aggregate = decider.aggregate
        self._version = decider.state_version
        self._shape = shape_of(state)
        self._decode_state = msgspec.msgpack.Decoder(state).decode

    def encode(self, aggregate_id: str, snapshot: Snapshot) -> bytes:
        """Encode a snapshot; raises `UnusableSnapshot` for a state that does not round-trip.

        The decoded state must be indistinguishable to a decider: equal values of other types or
        time zones do not count as the same.
        """
        try:
            state = _encode(snapshot.state)
            read = self._decode_state(state)
            is_equal = bool(read == snapshot.state)  # by the state's own definition of equality
            lost = difference(snapshot.state, read, exact=True)
        except Exception as error:  # the state's own code is run
            raise UnusableSnapshot(f"the state cannot be written: {error!r}") from error
        if lost or not is_equal:
            raise UnusableSnapshot(f"the state does not round-trip: {lost or ''}")
        record = _SnapshotRecord(
            *(self._aggregate, aggregate_id, self._version, self._shape),
            *(snapshot.head, state, snapshot.commands),
        )
        return _with_checksum(_encode(record))

    def decode(self, aggregate_id: str, data: bytes) -> Snapshot:
        """Decode a snapshot of this aggregate; raises `UnusableSnapshot`."""
        try:
            record = _decode_record(_checked_body(data))
            self._check(record, aggregate_id)
            state = self._decode_state(record.state)
        except UnusableSnapshot:
            raise
        except Exception as error:  # the state's own code is run
            raise UnusableSnapshot(f"it cannot be read: {error!r}") from error
        return Snapshot(state, record.head, record.commands)

    def _check(self, record: _SnapshotRecord, aggregate_id: str) -> None:
        own = (self._aggregate, aggregate_id)
        if (record.aggregate, record.aggregate_id) != own:
            raise UnusableSnapshot(f"it is a snapshot of {record.aggregate} {record.aggregate_id}")
        if record.state_version != self._version:
            problem = f"its state has version {record.state_version}, not {self._version}"
            raise UnusableSnapshot(problem, is_expected=True)
        if record.shape != self._shape:
            raise UnusableSnapshot("its state has other fields", is_expected=True)
        if record.head.position < 1 or record.head.version < 1:
            raise UnusableSnapshot("its head is not an event")


def head_in(data: bytes) -> Head | None:
    """The head that any decider's snapshot was taken at; None for what is no snapshot."""
    try:
        return _decode_record(_checked_body(data)).head
    except (UnusableSnapshot, *UNDECODABLE):
        return None


def _with_checksum(body: bytes) -> bytes:
    name = _NAME + _FORMAT + b"\n"
    return name + hashlib.sha256(name + body).digest() + body


def _checked_body(data: bytes) -> bytes:
    name, _, rest = data.partition(b"\n")
    if not name.startswith(_NAME):
        raise UnusableSnapshot("it is not a snapshot")
    if name != _NAME + _FORMAT:
        found = name.removeprefix(_NAME)[:20].decode(errors="replace")
        raise UnusableSnapshot(f"it has format {found!r}", is_expected=True)
    body = rest[_CHECKSUM:]
    if _with_checksum(body) != data:
        raise UnusableSnapshot("its checksum is wrong")
    return body
