"""The table of a run: what was sent and compared, what was found, and how long recoveries took."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from statistics import median

from tests.fault.checker.history import Fault, History
from tests.fault.checker.judge import KINDS, Finding

_SHOWN = 10


def printed(history: History, findings: Sequence[Finding]) -> None:
    """Print the table, and the first findings of each kind."""
    for line in (*counts(history), "", *recoveries(history), "", *found(findings)):
        print(line)


def counts(history: History) -> Iterator[str]:
    """How much of everything there was."""
    sent = {call.command_id for call in history.calls}
    told = [call for call in history.calls if call.outcome is not None]
    statuses = Counter(
        call.outcome["status"] for call in told if call.outcome and not call.is_reuse
    )
    rows = sum(map(len, history.rows.values()))
    yield f"{len(sent):10,}  commands, in {len(history.calls):,} attempts"
    yield f"{len(told):10,}  acknowledged: " + ", ".join(
        f"{count:,} {status}" for status, count in statuses.most_common()
    )
    yield f"{len(history.log):10,}  events in the log, {len(history.published):,} published"
    yield f"{rows:10,}  rows compared, {len(history.questions):,} answers to queries"
    yield f"{len(history.faults):10,}  faults"


def recoveries(history: History) -> Iterator[str]:
    """By kind of fault: how often, and until a command that was sent after it was acknowledged."""
    acknowledged = sorted(
        (call.asked, call.answered) for call in history.calls if call.outcome and call.answered
    )
    seconds: dict[str, list[float]] = defaultdict(list)
    for fault in history.faults:
        seconds[fault.kind].append(_recovery(fault, acknowledged))
    yield f"{'fault':20}  {'times':>5}  {'recovery, median':>16}  {'longest':>8}"
    for kind, each in sorted(seconds.items()):
        yield f"{kind:20}  {len(each):5}  {median(each):14.2f} s  {max(each):6.2f} s"
    for reason in history.skipped:
        yield f"skipped: {reason}"


def _recovery(fault: Fault, acknowledged: list[tuple[int, int]]) -> float:
    later = acknowledged[bisect_left(acknowledged, (fault.ended, 0)) :]
    if not later:
        return 0.0
    return (min(answered for _, answered in later) - fault.ended) / 1e9


def found(findings: Sequence[Finding]) -> Iterator[str]:
    """The number of findings of each kind, and the first of them."""
    by_kind: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for finding in findings:
        by_kind[finding.kind].append(finding.what)
    for kind, each in by_kind.items():
        yield f"{len(each):10,}  {kind}: {KINDS[kind]}"
        yield from (f"{'':12}{what[:600]}" for what in each[:_SHOWN])
