"""`eventstore audit verify` and `audit anchor`: prove that history is what it was."""

from __future__ import annotations

import time
from contextlib import aclosing
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.text import Text

from eventstore import nix
from eventstore.audit import Anchor, Finding, VerifySummary
from eventstore.audit import verify as verified
from eventstore.audit.anchor import public_key
from eventstore.cli.connecting import connected
from eventstore.cli.loop import run
from eventstore.cli.options import VAR, ConfigFile, Directory, Json, NatsUrl, client_settings
from eventstore.cli.progress import events_bar
from eventstore.cli.terminal import Terminal, printable, say
from eventstore.config import Settings
from eventstore.errors import ConfigurationError
from eventstore.messages.envelope import utc_now

__all__ = ["anchor", "verify"]

_NOT_EXPECTED = (
    "the anchor is signed by {key}: whether that is whose key it should be, only --key tells"
)

_MOST_RANGES = 10

_Limit = Annotated[
    int, typer.Option(metavar="N", min=0, help="Print no more findings; all are counted.")
]


class _Verified(msgspec.Struct):
    """The findings that are to be printed, and what they all came to."""

    findings: list[Finding]
    summary: VerifySummary
    seconds: float


def verify(
    aggregate: Annotated[
        str | None, typer.Argument(metavar="AGGREGATE", help="For example flake")
    ] = None,
    aggregate_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="Only this aggregate's.")
    ] = None,
    anchor_file: Annotated[
        Path | None,
        typer.Option("--anchor", metavar="FILE", help="Compare with what `anchor` printed then."),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(metavar="PUBLIC", help="The nkey that must have signed the anchor."),
    ] = None,
    read: Annotated[
        bool,
        typer.Option("--read", help="Also read every event as the code of today does; slower."),
    ] = False,
    limit: _Limit = 100,
    json: Json = False,
    nats_url: NatsUrl = None,
    config: ConfigFile = None,
    directory: Directory = VAR,
) -> None:
    """Check every event's bytes against the chain of hashes, and the log as a whole.

    Named are events that were changed, are missing or out of order, batches that are not whole,
    unknown types and ids used twice. Events removed from an aggregate's end only an anchor can
    tell. An anchor's signature proves nothing unless you know the key from elsewhere: --key.

    With --read every event is also read as services do it: seals are opened, payloads upcast and
    decoded. What cannot be read is named with the reason. Data that were forgotten are no reason;
    a key that is gone, though nobody was forgotten, is one.

    A chain holds payloads and the envelope's headers. Outside of it are X-Transformed, X-Personal,
    the server's Nats-*, and headers that are unknown here: nobody sees that these were changed.

    Every message of the log is accounted for: proven by the chain, changed, or foreign, which
    readers pass over (`events --foreign` prints these); and positions without a message are named.

    Ends with status 0 if all is well, 1 if anything is found, 2 for an error. With --json each
    line is a finding, the last one the summary.
    """
    if anchor_file is None and key is not None:
        raise typer.BadParameter("a key is for an anchor", param_hint="--key")
    if anchor_file is not None and aggregate is not None:
        raise typer.BadParameter("an anchor is of the whole log", param_hint="--anchor")
    settings = client_settings(nats_url, config, directory)
    expected = None if anchor_file is None else _read_anchor(anchor_file, key)
    console = Terminal(stderr=json)
    if expected is not None and expected.key is not None and key is None:
        console.print(_NOT_EXPECTED.format(key=expected.key), soft_wrap=True)
    found = run(_verify(settings, aggregate, aggregate_id, expected, limit, read=read))
    if aggregate_id is not None and not found.summary.events:
        raise typer.BadParameter(f"{aggregate} {aggregate_id} has no events", param_hint="ID")
    if json:
        _say_json(found)
    else:
        _print(console, found, expected, read=read)
    raise typer.Exit(1 if found.summary.findings else 0)


def anchor(
    sign: Annotated[
        Path | None,
        typer.Option(metavar="KEYFILE", help="Sign it with the nkey whose seed is in this file."),
    ] = None,
    nats_url: NatsUrl = None,
    config: ConfigFile = None,
    directory: Directory = VAR,
) -> None:
    """Verify the log, and print a document that stands for all of it; give it to an outsider.

    Whoever keeps it can have it compared with the log later: `audit verify --anchor FILE`. A log
    in which anything is found gets none (status 1). Ends with status 2 for an error.
    """
    settings = client_settings(nats_url, config, directory)
    console = Terminal(stderr=True)
    seed = None if sign is None else _read(sign)
    if seed is not None:
        console.print(f"to be signed by {public_key(seed)}", soft_wrap=True)
    found = run(_verify(settings, None, None, None, 10, read=False))
    if found.summary.findings:
        _print(console, found, None, read=False)
        raise typer.Exit(1)
    codec = nix.domain(settings.nats.subject_prefix).codec
    made = Anchor.of(codec, found.summary.fold, utc_now())
    document = made if seed is None else made.signed(seed)
    say(document.to_json().decode().rstrip("\n"))


async def _verify(
    settings: Settings,
    aggregate: str | None,
    aggregate_id: str | None,
    expected: Anchor | None,
    limit: int,
    *,
    read: bool,
) -> _Verified:
    codec = nix.domain(settings.nats.subject_prefix).codec
    summary = VerifySummary()
    kept: list[Finding] = []
    began = time.monotonic()
    with events_bar(Terminal(stderr=True), "verifying") as moved:
        async with connected(settings) as client:
            findings = verified(
                client,
                codec,
                aggregate,
                aggregate_id,
                anchor=expected,
                read=read,
                summary=summary,
                progress=lambda now: moved(max(now.position, now.events), now.total or now.events),
            )
            async with aclosing(findings):
                async for finding in findings:
                    if len(kept) < limit:
                        kept.append(finding)
    return _Verified(kept, summary, time.monotonic() - began)


def _read_anchor(file: Path, key: str | None) -> Anchor:
    expected = Anchor.from_json(_read(file))
    expected.check_signature(key)
    return expected


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}") from error


def _say_json(found: _Verified) -> None:
    summary = found.summary
    for finding in found.findings:
        say(msgspec.json.encode(finding).decode())
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
    say(msgspec.json.encode(facts).decode())


def _print(console: Console, found: _Verified, expected: Anchor | None, *, read: bool) -> None:
    for finding in found.findings:
        style = "red" if finding.first else "yellow"
        console.print(Text(printable(_heading(finding)), style=style), soft_wrap=True)
        console.print(printable(f"  {finding.text}"), soft_wrap=True)
    summary = found.summary
    if summary.findings > len(found.findings):
        left = summary.findings - len(found.findings)
        console.print(f"and {left:,} more; --limit prints more of them", soft_wrap=True)
    seen = f"{_count(summary.events, 'event')} of {_count(summary.aggregates, 'aggregate')}"
    what = f"{seen} verified in {found.seconds:.1f} s"
    if summary.findings:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in summary.kinds.items())
        account = _account(summary, read=read)
        console.print(f"{what}; {account}: found {kinds}", soft_wrap=True)
        return
    good = "nothing was changed, nothing is missing" + (", everything can be read" if read else "")
    console.print(f"{what}: {good}", soft_wrap=True)
    if expected is not None:
        console.print(
            f"the first {expected.events:,} are those of the anchor of {expected.time}",
            soft_wrap=True,
        )


def _account(summary: VerifySummary, *, read: bool) -> str:
    """What became of every message that was looked at."""
    tried = "" if read else " (--read reads all)"
    messages = _count(summary.total or summary.events, "message")
    text = (
        f"{messages} at positions {summary.first} to {summary.position}, {summary.proven:,} "
        f"proven, {summary.changed:,} changed, {summary.foreign:,} foreign, "
        f"{summary.unreadable:,} unreadable{tried}"
    )
    if not summary.missing_positions:
        return text
    ranges = [str(a) if a == b else f"{a}-{b}" for a, b in summary.missing[:_MOST_RANGES]]
    more = ", …" if len(summary.missing) > _MOST_RANGES else ""
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


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
