"""The format of snapshots: a state, and all that is needed to tell whether it may be believed.

A line that names the format, a checksum over that line and the rest, and the rest as MessagePack.
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
from eventstore.store.command_filter import CommandFilter
from eventstore.store.head import Head

__all__ = ["Snapshot", "SnapshotFormat"]

_NAME = b"eventstore snapshot "
_FORMAT = b"1"
_CHECKSUM = hashlib.sha256().digest_size


class Snapshot(Struct, frozen=True, eq=False):
    """An aggregate's folded state, the head it was folded up to, and the commands until then."""

    state: Any
    head: Head
    commands: CommandFilter


class _Record(Struct, frozen=True):
    """What is written: `shape` is a hash over the state's type."""

    aggregate: str
    aggregate_id: str
    state_version: int
    shape: str
    head: Head
    state: bytes
    commands: CommandFilter


_encode = msgspec.msgpack.Encoder().encode
_decode_record = msgspec.msgpack.Decoder(_Record).decode


class SnapshotFormat:
    """The snapshots of one decider's aggregates, as bytes and back."""

    def __init__(self, decider: Decider[Any]) -> None:
        state = type(decider.initial())
        self._aggregate = decider.aggregate
        self._version = decider.state_version
        self._shape = shape_of(state)
        self._decode_state = msgspec.msgpack.Decoder(state).decode

    def encode(self, aggregate_id: str, snapshot: Snapshot) -> bytes:
        """The bytes of a snapshot; `UnusableSnapshot` where the same state could not be read again.

        The same is what no decider can tell from it: of equal values, types and time zones count.
        """
        try:
            state = _encode(snapshot.state)
            read = self._decode_state(state)
            is_equal = bool(read == snapshot.state)  # whatever that means to the state itself
            lost = difference(snapshot.state, read, exact=True)
        except Exception as error:  # the state's own code is run
            raise UnusableSnapshot(f"the state cannot be written: {error!r}") from error
        if lost or not is_equal:
            raise UnusableSnapshot(f"the state would not be read as it was written: {lost or ''}")
        record = _Record(
            *(self._aggregate, aggregate_id, self._version, self._shape),
            *(snapshot.head, state, snapshot.commands),
        )
        return _sealed(_encode(record))

    def decode(self, aggregate_id: str, data: bytes) -> Snapshot:
        """Read a snapshot of this aggregate; raises `UnusableSnapshot`."""
        try:
            record = _decode_record(_unsealed(data))
            self._check(record, aggregate_id)
            state = self._decode_state(record.state)
        except UnusableSnapshot:
            raise
        except Exception as error:  # the state's own code is run
            raise UnusableSnapshot(f"it cannot be read: {error!r}") from error
        return Snapshot(state, record.head, record.commands)

    def _check(self, record: _Record, aggregate_id: str) -> None:
        own = (self._aggregate, aggregate_id)
        if (record.aggregate, record.aggregate_id) != own:
            raise UnusableSnapshot(f"it is one of {record.aggregate} {record.aggregate_id}")
        if record.state_version != self._version:
            problem = f"its state has version {record.state_version}, not {self._version}"
            raise UnusableSnapshot(problem, is_expected=True)
        if record.shape != self._shape:
            raise UnusableSnapshot("its state has other fields", is_expected=True)
        if record.head.position < 1 or record.head.version < 1:
            raise UnusableSnapshot("it is of no event")


def _sealed(body: bytes) -> bytes:
    name = _NAME + _FORMAT + b"\n"
    return name + hashlib.sha256(name + body).digest() + body


def _unsealed(data: bytes) -> bytes:
    name, _, rest = data.partition(b"\n")
    if not name.startswith(_NAME):
        raise UnusableSnapshot("it is none")
    if name != _NAME + _FORMAT:
        found = name.removeprefix(_NAME)[:20].decode(errors="replace")
        raise UnusableSnapshot(f"it has format {found!r}", is_expected=True)
    body = rest[_CHECKSUM:]
    if _sealed(body) != data:
        raise UnusableSnapshot("its checksum is wrong")
    return body
