"""`eventstore audit verify`: check that the history is what was recorded."""

from __future__ import annotations

import time
from contextlib import aclosing
from pathlib import Path
from typing import Annotated

import typer
from msgspec import Struct

from eventstore import audit
from eventstore.audit import Anchor, Finding, VerifySummary
from eventstore.cli.options import AggregateId, AggregateName, ClientSession, Json
from eventstore.cli.output.progress import events_bar
from eventstore.cli.output.terminal import Terminal, say_json
from eventstore.cli.session import Session
from eventstore.config.checks import read_file
from eventstore.messages.text import counted

_UNKNOWN_KEY = "the anchor is signed by {key}: only --key checks that it is the expected key"
_MAX_RANGES = 10


class Verification(Struct):
    """The findings that are to be printed, and the summary of all."""

    findings: list[Finding]
    summary: VerifySummary
    seconds: float


async def verify(
    session: ClientSession,
    aggregate: AggregateName = None,
    aggregate_id: AggregateId = None,
    anchor_file: Annotated[
        Path | None,
        typer.Option(
            "--anchor", metavar="FILE", help="Compare with a document that `anchor` printed."
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(metavar="PUBLIC", help="The nkey that must have signed the anchor."),
    ] = None,
    read: Annotated[
        bool,
        typer.Option("--read", help="Also decode every event with the current code; slower."),
    ] = False,
    limit: Annotated[
        int, typer.Option(metavar="N", min=0, help="Print at most this many findings.")
    ] = 100,
    json: Json = False,
) -> None:
    """Check that no event was changed or removed.

    Every event's bytes are checked against the chain of hashes, and the log as a whole. Findings
    are events that were changed, are missing or out of order, incomplete batches, ids used twice,
    and unknown types if an application is named, as with --app. Events removed from an aggregate's
    end can only be found with an anchor. An anchor's signature proves nothing unless you know the
    key from elsewhere: --key.

    With --read every event is also read as services do it: decrypted, upcast and decoded. What
    cannot be read is a finding with the reason. Forgotten data are no finding; a key that is
    missing, though nobody was forgotten, is one.

    A chain covers payloads and the envelope's headers. It does not cover X-Transformed, X-Personal,
    the server's Nats-*, and headers that are unknown here: changes of these are not found.

    Every message of the log is accounted for: proven by the chain, changed, or foreign, which
    readers skip (`events --foreign` prints these); positions without a message are listed.

    Ends with status 0 if nothing is found, 1 if anything is, 2 for an error.

    With --json each line is a finding, the last one the summary.
    """
    if anchor_file is None and key is not None:
        raise typer.BadParameter("a key verifies an anchor: give --anchor, too", param_hint="--key")
    if anchor_file is not None and aggregate is not None:
        raise typer.BadParameter(
            "an anchor is of the whole log: name no aggregate", param_hint="--anchor"
        )
    expected = None if anchor_file is None else Anchor.from_json(read_file(anchor_file))
    terminal = Terminal(stderr=json)
    if expected is not None:
        expected.check_signature(key)
        if expected.key is not None and key is None:
            terminal.print_line(_UNKNOWN_KEY.format(key=expected.key))
    found = await verify_log(session, aggregate, aggregate_id, expected, limit, read=read)
    if aggregate_id is not None and not found.summary.events:
        raise typer.BadParameter(f"{aggregate} {aggregate_id} has no events", param_hint="ID")
    if json:
        _say_json(found)
    else:
        print_verification(terminal, found, expected, read=read)
    raise typer.Exit(1 if found.summary.findings else 0)


async def verify_log(
    session: Session,
    aggregate: str | None = None,
    aggregate_id: str | None = None,
    expected: Anchor | None = None,
    limit: int = 10,
    *,
    read: bool = False,
) -> Verification:
    """Verify the log or a part of it, with a progress bar, and keep the first `limit` findings."""
    summary = VerifySummary()
    first: list[Finding] = []
    began = time.monotonic()
    with events_bar(Terminal(stderr=True), "verifying") as advance:
        async with session.connect() as client:
            if aggregate is not None:
                await session.check_aggregate(client, aggregate)
            findings = audit.verify(
                client,
                session.codec,
                aggregate,
                aggregate_id,
                anchor=expected,
                read=read,
                types=session.knows_types,
                summary=summary,
                progress=lambda now: advance(
                    max(now.position, now.events), now.total or now.events
                ),
            )
            async with aclosing(findings):
                async for finding in findings:
                    if len(first) < limit:
                        first.append(finding)
    return Verification(first, summary, time.monotonic() - began)


def _say_json(found: Verification) -> None:
    summary = found.summary
    for finding in found.findings:
        say_json(finding)
    facts = {
        "summary": {
            "events": summary.events,
            "aggregates": summary.aggregates,
            "messages": summary.total or summary.events,
            "first": summary.first,
            "last": summary.position,
            "proven": summary.proven,
            "changed": summary.changed,
            "foreign": summary.foreign,
            "unreadable": summary.unreadable,
            "missing_positions": summary.missing_positions,
            "missing": summary.missing,
            "findings": summary.findings,
            "broken_aggregates": summary.broken,
            "kinds": summary.kinds,
            "seconds": round(found.seconds, 3),
        }
    }
    say_json(facts)


def print_verification(
    terminal: Terminal, found: Verification, expected: Anchor | None = None, *, read: bool = False
) -> None:
    """Print the findings, and the summary."""
    for finding in found.findings:
        style = "red" if finding.first else "yellow"
        terminal.print_line(_heading(finding), style)
        terminal.print_line(f"  {finding.text}")
    summary = found.summary
    if summary.findings > len(found.findings):
        left = summary.findings - len(found.findings)
        terminal.print_line(f"and {left:,} more; --limit prints more of them")
    seen = f"{counted(summary.events, 'event')} of {counted(summary.aggregates, 'aggregate')}"
    what = f"{seen} verified in {found.seconds:.1f} s"
    if summary.findings:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in summary.kinds.items())
        account = _account(summary, read=read)
        terminal.print_line(f"{what}; {account}: found {kinds}")
        return
    good = "nothing was changed, nothing is missing" + (", everything can be read" if read else "")
    terminal.print_line(f"{what}: {good}")
    if expected is not None:
        terminal.print_line(
            f"the first {expected.events:,} are those of the anchor of {expected.time}"
        )


def _account(summary: VerifySummary, *, read: bool) -> str:
    tried = "" if read else " (--read reads all)"
    messages = counted(summary.total or summary.events, "message")
    text = (
        f"{messages} at positions {summary.first} to {summary.position}, {summary.proven:,} "
        f"proven, {summary.changed:,} changed, {summary.foreign:,} foreign, "
        f"{summary.unreadable:,} unreadable{tried}"
    )
    if not summary.missing_positions:
        return text
    ranges = [str(a) if a == b else f"{a}-{b}" for a, b in summary.missing[:_MAX_RANGES]]
    more = ", …" if len(summary.missing) > _MAX_RANGES else ""
    return f"{text}, {summary.missing_positions:,} missing ({', '.join(ranges)}{more})"


def _heading(finding: Finding) -> str:
    if not finding.subject:
        return f"position {finding.position}: {finding.kind}"
    version = "" if finding.version is None else f" v{finding.version}"
    later = "" if finding.first else " (after the first finding of this aggregate)"
    return (
        f"position {finding.position}: {finding.kind}: {finding.subject}{version} "
        f"{finding.event_id or ''}{later}"
    )
