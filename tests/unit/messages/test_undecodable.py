"""Untrusted input that is not JSON, or is nested too deep, is a clear error."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest

from eventstore.audit import Anchor
from eventstore.config import load_settings
from eventstore.errors import ClientError, ConfigurationError, InvalidAnchor, InvalidPayload
from eventstore.jetstream.publish import read_ack
from eventstore.messages.codec import Codec
from eventstore.messages.outcome import Outcome
from eventstore.messages.types import Command, Event
from eventstore.service.endpoints import _is_acceptable
from eventstore.service.runtime_config import parse_value
from eventstore.store.key_bucket import KeyEntry
from eventstore.transfer.file_format import FileSums
from tests.unit.test_architecture import sources

DEEP = b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"


class Made(Event, subject="thing.made"):
    x: object


class Make(Command, subject="thing.make"):
    x: object


codec = Codec("deep", [Make], [Made])


def queue_limit(data: bytes) -> object:
    return parse_value("commands.queue_limit", data.decode(errors="replace"))


@pytest.mark.parametrize(
    "data", [DEEP, b"\xff", b"{", b"[]"], ids=["deep", "bytes", "open", "list"]
)
@pytest.mark.parametrize(
    ("read", "error"),
    [
        (lambda data: codec.decode_event("Made", 1, data), InvalidPayload),
        (lambda data: codec.decode_command("thing", "make", data), InvalidPayload),
        (Anchor.from_json, InvalidAnchor),
        (lambda data: read_ack("x", data), ClientError),
        (lambda data: FileSums().open(data), ValueError),
        (queue_limit, ConfigurationError),
    ],
    ids=["event", "command", "anchor", "acknowledgement", "export line", "configuration"],
)
def test_undecodable_input_is_a_clear_error(
    data: bytes, read: Callable[[bytes], object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        read(data)


def test_unreadable_records_count_as_missing() -> None:
    assert Outcome.of("x", DEEP) is None
    assert KeyEntry.read(DEEP) == KeyEntry()
    assert not _is_acceptable(b"[" * 100_000)


def test_a_file_of_settings_that_is_nested_too_deep_is_named(tmp_path: Path) -> None:
    path = tmp_path / "deep.toml"
    path.write_text("x = " + "[" * 10_000 + "]" * 10_000)
    with pytest.raises(ConfigurationError, match=r"deep\.toml is not TOML"):
        load_settings(path, environ={})


def test_nobody_catches_only_a_part_of_what_a_decoder_raises() -> None:
    """`except msgspec.DecodeError` and the like forget what is nested too deep."""
    parts = {"DecodeError", "MsgspecError", "ValidationError"}
    found = {
        module
        for module, tree in sources().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler) and node.type is not None
        for name in ast.walk(node.type)
        if isinstance(name, ast.Attribute) and name.attr in parts
    }
    # These encode or read what is ours.
    ours = ("commands.state_cache", "store.snapshots.format", "messages.personal")
    assert found <= {f"eventstore.{name}" for name in ours}
