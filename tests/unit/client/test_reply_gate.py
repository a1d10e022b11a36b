"""The reply gate: inboxes may be answered, and nothing else."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore.client.reply_gate import ReplyGate
from eventstore.config import NatsSettings
from eventstore.errors import ConfigurationError

GATE = ReplyGate(
    NatsSettings(
        subject_prefix="nix",
        inbox_prefix="_INBOX_s.service",
        reply_prefixes=("_INBOX_c", "inbox.of.ours"),
    )
)


@pytest.mark.parametrize(
    "inbox",
    [
        "_INBOX.abc",
        "_INBOX.abc.def",
        "_INBOX.0123456789abcdef.s.7.12",
        "_R_.J3sYh1.Q8xkZ2pA",
        "_R_.J3sYh1.Q8xkZ2pA.T",
        "_INBOX_s.service.0123456789abcdef.1",
        "_INBOX_c.ann.0123456789abcdef.s.7.12",
        "inbox.of.ours.1",
    ],
)
def test_inboxes_are_answered(inbox: str) -> None:
    assert GATE.admits(inbox)


@pytest.mark.parametrize(
    "subject",
    [
        "",
        "_INBOX",
        "_INBOX.",
        "_INBOX..a",
        "_INBOX.a.",
        "_INBOX.>",
        "_INBOX.a.>",
        "_INBOX.a.*",
        "_INBOX.*.a",
        "_INBOX.a b",
        "_INBOX.a\n",
        "_INBOX.a\r\nPUB nix.log.flake.x 0",
        "_INBOX.$JS",
        "_INBOX.ä",
        "_INBOX.a.b.c.d.e",
        "_INBOX." + "a" * 65,
        "_INBOX_c",
        "_INBOX_d.ann.1",
        "_INBOX_s.1",
        "_INBOX_s.other.1",
        "x_INBOX.a",
        "inbox.of_ours.1",
        "_R_",
        "nix.log.flake.f1",
        "nix.cmd.flake.create",
        "nix.event.flake.created",
        "health.nix",
        "discovery.announce",
        "$JS.API.STREAM.DELETE.NIX_LOG",
        "$JS.API.STREAM.PURGE.NIX_EVENT",
        "$JS.ACK.NIX_CMD.commands.1.1.1.1.0",
        "$KV.NIX_KEYS.x",
        "$SRV.PING",
        "$SYS.REQ.SERVER.PING",
        ">",
        "*",
    ],
)
def test_other_subjects_are_not_answered(subject: str) -> None:
    assert not GATE.admits(subject)


@given(st.text())
def test_a_wildcard_or_a_dollar_is_never_admitted(text: str) -> None:
    for subject in (text, f"_INBOX.{text}", f"_INBOX_c.{text}"):
        if GATE.admits(subject):
            assert {"*", ">", "$", " ", "\r", "\n"}.isdisjoint(subject)
            assert all(subject.split("."))


def test_a_prefix_is_never_the_domains_own() -> None:
    with pytest.raises(
        ConfigurationError, match=r"nats\.inbox_prefix: inboxes may not be below nix"
    ):
        NatsSettings(subject_prefix="nix", inbox_prefix="nix")
    with pytest.raises(ConfigurationError, match=r"nats\.reply_prefixes: inboxes may not be below"):
        NatsSettings(subject_prefix="nix", reply_prefixes=("nix",))


def test_a_domain_whose_log_is_opened_is_protected_whatever_the_settings_say() -> None:
    gate = ReplyGate(NatsSettings(reply_prefixes=("nix",)))
    gate.protect("nix")
    assert not gate.admits("nix.log.flake.f1")


def test_refusals_are_logged_once_per_subject_and_all_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gate = ReplyGate(NatsSettings())
    with caplog.at_level(logging.WARNING, logger="eventstore"):
        for number in range(5):
            assert not gate.passes(f"nix.log.flake.f{number}", "health.nix")
        assert not gate.passes("nix.log.flake.f6", "metrics.nix")
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "health.nix",
        "metrics.nix",
    ]
    assert gate.refused == 6
