"""A trace on the terminal: claimed actors, and authenticated senders."""

from __future__ import annotations

from io import StringIO

import msgspec

from eventstore.audit import AuditEntry, CausationTree
from eventstore.audit.causation_tree import causation_entries
from eventstore.audit.chain_check import ChainReport
from eventstore.cli.audit.index import IndexPosition
from eventstore.cli.audit.trace_output import Trace, print_trace
from eventstore.cli.output.terminal import Terminal
from tests.unit.audit.test_causation_tree import entry


def printed(entries: list[AuditEntry], authenticated: dict[str, str]) -> list[str]:
    lines = causation_entries(entries)
    tree = CausationTree(
        correlation_id="c1", asked="c1", events=2, commands=1, untold=0, lines=lines
    )
    chain = ChainReport(
        aggregate="thing", aggregate_id="t", events=2, position=2, authenticated=authenticated
    )
    text = StringIO()
    trace = Trace(tree=tree, index=IndexPosition(2, 2), chains=(chain,))
    print_trace(Terminal(file=text, width=200), trace)
    return [line for line in text.getvalue().splitlines() if "Type thing" in line]


def test_the_claimed_actor_and_the_authenticated_sender_are_both_shown() -> None:
    claimed = [
        msgspec.structs.replace(each, actor="the boss")
        for each in (entry("c1", "c1", 0), entry("e1", "c1", 1), entry("e2", "c1", 2))
    ]
    sent = {"e1": "CLIENTS/anna", "e2": "CLIENTS/anna"}

    command, *events = printed(claimed, sent)
    assert "by the boss" in command
    assert command.endswith("authenticated as CLIENTS/anna")
    assert not any("CLIENTS" in event for event in events), "it is said once"

    events = printed(claimed[1:], sent)
    assert all(event.endswith("authenticated as CLIENTS/anna") for event in events)
    assert not any("authenticated" in line for line in printed(claimed, {}))
