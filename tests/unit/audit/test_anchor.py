"""Anchors as documents: signed, garbled, changed."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import msgspec
import nkeys  # type: ignore[import-untyped]
import pytest
from msgspec.structs import replace

from eventstore.audit import Anchor
from eventstore.audit.log_digest import LogDigest
from eventstore.errors import ConfigurationError, InvalidAnchor
from eventstore.jetstream.stored_message import StoredMessage
from tests.integration.ledger import ledger


def seed() -> bytes:
    raw = bytes(range(32))
    encoded: bytes = nkeys.encode_seed(raw, nkeys.PREFIX_BYTE_USER)
    return encoded


def public(own: bytes) -> str:
    key: bytes = nkeys.from_seed(bytearray(own)).public_key
    return key.decode()


def folded(count: int) -> LogDigest:
    fold = LogDigest()
    for number in range(count):
        headers = {"X-Aggregate-Version": str(number + 1), "X-Chain": f"{number:064}"}
        fold.add(StoredMessage("t.log.account.a", number + 1, headers, b""), is_new=number == 0)
    return fold


@pytest.fixture
def anchor() -> Anchor:
    return Anchor.of(ledger("t"), folded(100), datetime(2026, 1, 1, tzinfo=UTC))


def test_marks_are_few_and_even_however_many_events_there_are() -> None:
    for count in (0, 1, 31, 32, 33, 1_000, 5_000):
        marks = list(folded(count).marks)
        steps = {after - before for before, after in zip([0, *marks], marks, strict=False)}
        assert len(marks) < 32
        assert len(steps) <= 1
        assert count == 0 or count - marks[-1] < steps.pop()


def test_the_root_is_over_every_subject_version_and_chain_in_order() -> None:
    def root(*messages: tuple[str, str, str]) -> str:
        fold = LogDigest()
        for subject, version, chain in messages:
            headers = {"X-Aggregate-Version": version, "X-Chain": chain}
            fold.add(StoredMessage(subject, 1, headers, b""), is_new=False)
        return fold.root

    one, two = ("a", "1", "x"), ("b", "1", "y")
    roots = [
        root(),
        root(one),
        root(one, two),
        root(two, one),
        root(("c", "1", "x"), two),
        root(("a", "2", "x"), two),
        root(("a", "1", "z"), two),
    ]
    assert len(set(roots)) == len(roots)


def test_a_signature_is_by_a_key_that_the_outsider_knows(anchor: Anchor) -> None:
    signed = Anchor.from_json(anchor.signed(seed()).to_json())
    key = public(seed())

    assert signed.key == key
    signed.check_signature()
    signed.check_signature(key)
    anchor.check_signature()
    other = public(nkeys.encode_seed(bytes(32), nkeys.PREFIX_BYTE_USER))
    with pytest.raises(InvalidAnchor, match=f"signed by {key}, and {other} was expected"):
        signed.check_signature(other)
    with pytest.raises(InvalidAnchor, match="it is not signed, and"):
        anchor.check_signature(key)


def test_an_anchor_changed_after_signing_is_refused(anchor: Anchor) -> None:
    signed = anchor.signed(seed())
    other = public(nkeys.encode_seed(bytes(32), nkeys.PREFIX_BYTE_USER))
    for bad in (
        replace(signed, events=99),
        replace(signed, root="0" * 64),
        replace(signed, marks={}),
        replace(signed, signature=None),
        replace(signed, signature="%"),
        replace(signed, signature="AAAA"),
        replace(signed, key=None),
        replace(signed, key=other),
        replace(signed, key=f"{signed.key}A"),
        replace(signed, key="é"),
    ):
        with pytest.raises(InvalidAnchor):
            bad.check_signature()


def test_a_seed_that_is_none_is_not_shown(anchor: Anchor) -> None:
    for bad in (b"", b"SUAsecret", public(seed()).encode(), b"\xff" * 58):
        with pytest.raises(ConfigurationError, match="no nkey seed to sign with"):
            anchor.signed(bad)


def test_garbled_documents_are_refused(anchor: Anchor) -> None:
    whole = json.loads(anchor.to_json())
    for bad in (
        b"",
        b"\xff",
        anchor.to_json()[:-10],
        msgspec.json.encode({**whole, "format_version": 2}),
        msgspec.json.encode({**whole, "format": "recipe"}),
        msgspec.json.encode({**whole, "more": 1}),
        msgspec.json.encode({key: value for key, value in whole.items() if key != "root"}),
    ):
        with pytest.raises(InvalidAnchor, match="it is not an anchor, or a damaged one"):
            Anchor.from_json(bad)
