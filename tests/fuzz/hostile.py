"""Hostile values: text, numbers, JSON, headers and bytes that are nearly right, or not at all."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

HEADERS = (
    *("X-Event-ID", "X-Event-Type", "X-Correlation-ID", "X-Causation-ID", "X-Aggregate-ID"),
    *("X-Timestamp", "X-Domain", "X-Aggregate-Version", "X-Schema-Version", "X-Chain", "X-Actor"),
    *("X-Authenticated-As", "X-Command-Digest", "X-ID-Derived", "X-Process", "X-Due", "X-Opaque"),
    *("X-Expected-Version", "X-Reply-To", "X-Metadata", "X-Position", "X-Wait-Position"),
    *("X-Wait-Timeout", "Nats-Msg-Id", "traceparent", "Content-Type", "Nats-Service-Error"),
    *("Nats-Expected-Stream", "Nats-TTL", "Nats-Schedule", "Nats-Schedule-Target", "Status"),
)
"""The headers of the envelope, of requests, and some that the server knows."""

_TEXTS = (
    *("", " ", "0", "-1", "1", "null", "true", "NaN", "1e999", "9" * 40, "a" * 200, "a" * 5_000),
    *("a.b", "*", ">", "..", "../../etc/passwd", "%00", "'; DROP TABLE balance; --", "{}", "[]"),
    *("\u00e4\u00f6\u00fc", "\u202e", "\U0001f4a5", "\x7f", "\t", "a\x00b", "account", "a1"),
    *("00000000-0000-0000-0000-000000000000", "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF"),
    *("2026-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z", "0000-00-00T00:00:00Z"),
    *("_INBOX.fuzz.x", "ledger.log.account.evil", "$JS.API.STREAM.DELETE.LEDGER_LOG"),
    *("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "application/json"),
)
_GOOD = 0.5
"""How often a payload, or the headers, are as they should be: then the rest of the way is tried."""
_NUMBERS = (0, -1, 1, 2**31, 2**53, 2**63, 2**64, -(2**63) - 1, 10**40, 0.1, -0.0, 1e308)


def text(chance: random.Random) -> str:
    """A text, short or long, of any characters."""
    if chance.random() < 0.8:
        return chance.choice(_TEXTS)
    return "".join(chr(chance.randrange(1, 0xD7FF)) for _ in range(chance.randrange(20)))


def value(chance: random.Random, depth: int = 0) -> Any:
    """A value of JSON."""
    kinds: list[Callable[[], Any]] = [
        lambda: text(chance),
        lambda: chance.choice(_NUMBERS),
        lambda: chance.choice([None, True, False]),
        lambda: [value(chance, depth + 1) for _ in range(chance.randrange(3))],
        lambda: {text(chance): value(chance, depth + 1) for _ in range(chance.randrange(3))},
    ]
    return chance.choice(kinds if depth < 3 else kinds[:3])()


def payload(chance: random.Random, good: dict[str, Any]) -> bytes:
    """A payload that is near to a good one, or anything else."""
    fields = dict(good)
    whole = json.dumps(fields).encode()
    if chance.random() < _GOOD:
        return whole
    mutations: list[Callable[[], bytes]] = [
        lambda: json.dumps(fields | {text(chance): value(chance)}).encode(),
        lambda: json.dumps({name: value(chance) for name in fields}).encode(),
        lambda: json.dumps(value(chance)).encode(),
        lambda: whole[: chance.randrange(len(whole))],
        lambda: changed(chance, whole),
        lambda: chance.randbytes(chance.randrange(200)),
        lambda: b"[" * chance.choice([10, 1_000, 100_000]),
        lambda: b'{"amount":' + b"9" * 10_000 + b"}",
        lambda: b'{"a":1,"a":2}',
        lambda: b"",
        lambda: b" " * chance.choice([1, 100_000]) + whole,
    ]
    return chance.choice(mutations)()


def changed(chance: random.Random, data: bytes) -> bytes:
    """Some bytes with a few of them changed, removed or repeated."""
    found = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        if not found:
            break
        at = chance.randrange(len(found))
        match chance.randrange(3):
            case 0:
                found[at] = chance.randrange(256)
            case 1:
                del found[at : at + chance.randint(1, 8)]
            case _:
                found[at:at] = found[at : at + chance.randint(1, 40)]
    return bytes(found)


def headers(chance: random.Random, good: dict[str, str]) -> bytes | None:
    """A block of headers: some of the good ones, hostile ones, twice, or no block that is one."""
    if chance.random() < 0.1:
        return chance.choice(_BLOCKS)
    lines = list(good.items())
    added = range(0 if chance.random() < _GOOD else chance.choice([1, 2, 5]))
    lines += [(chance.choice(HEADERS), text(chance)) for _ in added]
    if lines and chance.random() < 0.1:
        lines.append(chance.choice(lines))
    if lines and chance.random() < 0.1:
        name, content = lines.pop(chance.randrange(len(lines)))
        lines.append((chance.choice([name.lower(), name.upper(), f" {name}"]), content))
    written = [f"{name}:{content}".replace("\r\n", " ").encode() for name, content in lines]
    return b"NATS/1.0\r\n" + b"".join(line + b"\r\n" for line in written) + b"\r\n"


_BLOCKS: tuple[bytes | None, ...] = (
    *(None, b"", b"NATS/1.0", b"NATS/1.0\r\n\r\n", b"\r\n\r\n", b"NATS/1.0 503\r\n\r\n"),
    *(b"NATS/1.0 \xff\xfe\r\n\r\n", b"NATS/2.0\r\nA: b\r\n\r\n", b"NATS/1.0\r\nno colon\r\n\r\n"),
    *(b"NATS/1.0\r\n: empty\r\n\r\n", b"NATS/1.0\r\nX-Event-ID: \xff\xff\r\n\r\n"),
    *(b"NATS/1.0\r\nX-Reply-To: _INBOX.fuzz.1\r\n a folded line\r\n\r\n", b"\x00" * 40),
    b"NATS/1.0\r\n" + b"".join(b"X-%d: y\r\n" % number for number in range(500)) + b"\r\n",
)
