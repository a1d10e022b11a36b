"""Checks whether the events of a causation tree are in the log as they were recorded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from eventstore.audit.causation_tree import CausationEntry, CausationTree
from eventstore.audit.chain_check import ChainReport, Witness, check_chain
from eventstore.jetstream.direct_get import DirectReader
from eventstore.messages.subjects import Subjects

MAX_VERIFIED = 10_000
"""How many events are read at most to verify a trace, so that it takes about a second."""


async def check_tree(
    reader: DirectReader, subjects: Subjects, tree: CausationTree
) -> tuple[ChainReport, ...]:
    """Check the chains of the tree's aggregates, as many as there is time for."""
    reports = []
    left = MAX_VERIFIED
    for subject, witnesses in _witnesses(subjects, tree.lines).items():
        report = await check_chain(reader, subject, witnesses=witnesses, max_events=left)
        reports.append(report)
        left -= report.events
    return tuple(reports)


def _witnesses(
    subjects: Subjects, lines: Iterable[CausationEntry]
) -> Mapping[str, dict[int, Witness]]:
    """What the index has of the events in the tree, for each aggregate."""
    found: dict[str, dict[int, Witness]] = {}
    for line in lines:
        entry = line.entry
        if entry is not None and entry.kind == "event":
            subject = subjects.log(str(entry.aggregate), str(entry.aggregate_id))
            witness = Witness(entry.id, str(entry.type), entry.chain)
            found.setdefault(subject, {})[entry.position] = witness
    return found
