"""The attacks: what users try beyond their rights, directly and by detours."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Literal, NamedTuple

ROLES = ("admin", "developer", "reader", "auditor", "subscriber")
SENDERS = ("admin", "developer", "subscriber")
KEY_OWNER = "someone"
TIMER = "guard"
"""A timer of the service, which must stay as it is."""
OTHERS_INBOX = "_INBOX_c.{role}.watched"
"""An inbox of the user that is watched: nothing may arrive there."""

_NOTHING: Mapping[str, str] = MappingProxyType({})
_STREAMS = (
    *("NIX_LOG", "NIX_TIMER", "NIX_CMD", "NIX_EVENT", "NIX_PARKED", "NIX_ACTION"),
    *("KV_NIX_SNAPSHOTS", "KV_NIX_OUTCOMES", "KV_NIX_CONFIG", "KV_NIX_KEYS"),
)
_APIS = ("$JS.API", "nix.api")
_DEVELOPERS = (
    *("nix.cmd.flake.*", "nix.cmd.package.*", "nix.cmd.module.*", "nix.cmd.overlay.*"),
    *("nix.cmd.config.create", "nix.cmd.config.update"),
)
_CONFIG = ("log_level", "projections.paused", "commands.queue_limit")

MAY: Mapping[str, Sequence[str]] = {
    "admin": (
        "nix.cmd.*.*",
        "nix.query.>",
        "nix.retry.subscriber",
        *(f"$KV.NIX_CONFIG.{key}" for key in _CONFIG),
        *(f"nix.api.STREAM.{verb}.NIX_PARKED" for verb in ("INFO", "MSG.GET", "MSG.DELETE")),
        "nix.api.DIRECT.GET.NIX_PARKED",
        *(f"nix.api.STREAM.{verb}.KV_NIX_CONFIG" for verb in ("INFO", "MSG.GET")),
        "nix.api.CONSUMER.DELETE.NIX_EVENT.*",
        "nix.api.STREAM.INFO.NIX_LOG",
        "nix.timer.*.*.*",
        *(f"nix.api.STREAM.{verb}.NIX_TIMER" for verb in ("INFO", "MSG.GET", "MSG.DELETE")),
        "nix.api.DIRECT.GET.NIX_TIMER",
        "nix.action._.*",
    ),
    "developer": ("nix.query.>", "nix.action._.*", *_DEVELOPERS),
    "reader": ("nix.query.>",),
    "auditor": (
        "nix.query.audit.*",
        "nix.api.STREAM.INFO.NIX_LOG",
        "nix.api.STREAM.MSG.GET.NIX_LOG",
        "nix.api.DIRECT.GET.NIX_LOG",
    ),
    "subscriber": (
        "nix.cmd.*.*",
        "nix.action._.*",
        "nix.query.>",
        "nix.api.STREAM.INFO.NIX_EVENT",
        "nix.api.STREAM.MSG.GET.NIX_EVENT",
        "nix.api.CONSUMER.MSG.NEXT.NIX_EVENT.subscriber",
        "$JS.ACK.NIX_EVENT.subscriber.>",
    ),
}
"""What a role may do anyway, which is therefore no attack of it (NIX_DOMAIN, roles)."""


class Try(NamedTuple):
    """One message that is sent, or one subject that is listened on."""

    subject: str
    payload: bytes = b""
    reply: str = ""
    headers: Mapping[str, str] = _NOTHING
    listens: bool = False


class Attack(NamedTuple):
    """Some tries with one aim. What must not happen, besides that any stream changes:

    "effect": nothing more than that; "answer": that a try is answered with anything but an error;
    "hear": that a subscription brings a message.
    """

    aim: str
    tries: Sequence[Try]
    harm: Literal["effect", "answer", "hear"] = "effect"


def is_a_right(role: str, each: Try) -> bool:
    """Whether a role has the right to do what a try is about, which is then no attack."""
    if each.listens:
        own = each.subject == f"_INBOX_c.{role}.>"
        return own or (role == "subscriber" and each.subject == "nix.retry.subscriber")
    if role == "admin" and each.subject.startswith(f"nix.timer.{TIMER}."):
        return True
    if {"X-Reply-To", "Nats-Rollup"} & set(each.headers):
        return False
    if "Nats-Schedule-Target" in each.headers:
        return _sets_own_timer(role, each)
    if (traced := each.headers.get("Nats-Trace-Dest")) is not None:
        return may(role, traced)
    return may(role, each.reply or each.subject)


def _sets_own_timer(role: str, each: Try) -> bool:
    """Whether it sets a timer for a command that the role may send, without further headers."""
    *first, aggregate, action = each.subject.split(".")
    return (
        first[:2] == ["nix", "timer"]
        and len(first) == 3
        and set(each.headers) == {"Nats-Schedule", "X-Aggregate-ID", "Nats-Schedule-Target"}
        and each.headers["Nats-Schedule-Target"] == f"nix.due.{aggregate}.{action}"
        and may(role, f"nix.cmd.{aggregate}.{action}")
    )


def may(role: str, subject: str) -> bool:
    """Whether a role has the right to publish on a subject."""
    return any(_matches(pattern.split("."), subject.split(".")) for pattern in MAY[role])


def attacks() -> Iterator[Attack]:
    """All of them."""
    yield from _detours()
    yield from _writing()
    yield from _reading()
    yield from _hearing()
    yield from _consumers()
    yield from _timers()


def _detours() -> Iterator[Attack]:
    """Have somebody else publish: an answer goes to the reply subject that the request names."""
    whole = {"X-Aggregate-ID": "evil", "X-Aggregate-Version": "1", "X-Chain": "0" * 64}
    for entrance, payload in _ENTRANCES:
        yield Attack(
            f"answer of {entrance} sent elsewhere",
            [Try(entrance, payload, target, whole) for target in _TARGETS],
        )
    yield Attack(
        "outcome sent elsewhere by X-Reply-To",
        [
            Try("nix.cmd.flake.update", b"{}", "", {"X-Aggregate-ID": "none", "X-Reply-To": target})
            for target in _TARGETS
        ],
    )
    yield Attack(
        "have the server trace a message to elsewhere",
        [
            Try(entrance, b"{}", "", {"Nats-Trace-Dest": target, **only, "X-Aggregate-ID": "none"})
            for entrance in ("health.nix", "nix.query.flake.list", "nix.cmd.flake.update")
            for only in ({}, {"Nats-Trace-Only": "true"})
            for target in _TARGETS
        ],
    )


_ENTRANCES = (
    *((f"health.{name}", b"") for name in ("nix", "cim-domain-nix")),
    ("health.nix", b"[]"),
    ("metrics.nix", b""),
    ("discovery.cim-domain-nix", b""),
    *((f"$SRV.{verb}", b"") for verb in ("PING", "INFO", "STATS")),
    ("$SRV.PING.cim-domain-nix", b""),
    *((f"nix.query.{query}", b"{}") for query in ("flake.list", "audit.search", "audit.history")),
    ("nix.query.flake.get", b'{"id": "none"}'),
    ("nix.cmd.flake.update", b"{}"),
    ("nix.cmd.flake.create", b"{"),
    ("nix.retry.subscriber", b'{"sequence": 1}'),
    ("nix.api.CONSUMER.CREATE.NIX_LOG.evil", b""),
    ("nix.api.CONSUMER.CREATE.NIX_EVENT.subscriber", b""),
    ("nix.api.CONSUMER.INFO.NIX_EVENT.subscriber", b""),
    *((f"nix.api.STREAM.INFO.{name}", b"") for name in ("NIX_LOG", "NIX_EVENT", "NIX_PARKED")),
    *(
        (f"nix.api.{verb}.{name}", b'{"seq": 1}')
        for verb in ("STREAM.MSG.GET", "DIRECT.GET")
        for name in ("NIX_LOG", "NIX_EVENT", "NIX_PARKED", "KV_NIX_CONFIG")
    ),
    ("nix.api.DIRECT.GET.NIX_LOG", b'{"seq": 1, "next_by_subj": ">", "batch": 10}'),
    ("nix.api.DIRECT.GET.KV_NIX_OUTCOMES.$KV.NIX_OUTCOMES.none", b""),
    ("nix.api.CONSUMER.MSG.NEXT.NIX_EVENT.subscriber", b'{"no_wait": true}'),
    ("nix.timer.evil.flake.update", b"{}"),
    *((f"nix.api.{verb}.NIX_TIMER", b'{"seq": 1}') for verb in ("STREAM.MSG.GET", "DIRECT.GET")),
)

_TARGETS = (
    *(f"$JS.API.STREAM.DELETE.{stream}" for stream in _STREAMS),
    *(f"$JS.API.STREAM.PURGE.{stream}" for stream in _STREAMS),
    *("nix.log.flake.evil", "nix.event.flake.created", "nix.parked.cmd.flake.evil"),
    *("nix.cmd.config.activate", "nix.cmd.flake.create", "discovery.announce"),
    *("$KV.NIX_KEYS.evil", "$KV.NIX_CONFIG.log_level", "$KV.NIX_CONFIG.feed.position"),
    *("$KV.NIX_SNAPSHOTS.evil", "$KV.NIX_OUTCOMES.evil", "nix.retry.subscriber"),
    "nix.api.STREAM.MSG.DELETE.NIX_PARKED",
    "$JS.API.STREAM.MSG.DELETE.NIX_PARKED",
    *(f"nix.timer.{TIMER}.config.rollback", "nix.due.config.rollback"),
    *("nix.api.STREAM.MSG.DELETE.NIX_TIMER", "$JS.API.STREAM.MSG.DELETE.NIX_TIMER"),
    *("nix.action._.evil", "nix.action.admin.evil", "nix.api.STREAM.MSG.DELETE.NIX_ACTION"),
    "$JS.API.CONSUMER.DELETE.NIX_CMD.worker",
    "$JS.ACK.NIX_CMD.worker.1.1.1.1.1",
)


def _writing() -> Iterator[Attack]:
    """Write, delete and pretend directly."""
    yield Attack(
        "delete or purge streams",
        [
            Try(f"{api}.STREAM.{verb}.{stream}", b"")
            for api in _APIS
            for verb in ("DELETE", "PURGE")
            for stream in _STREAMS
        ],
        "answer",
    )
    yield Attack(
        "delete messages",
        [
            Try(f"{api}.STREAM.MSG.DELETE.{stream}", b'{"seq": 1}')
            for api in _APIS
            for stream in _STREAMS
        ],
        "answer",
    )
    yield Attack(
        "change or replace streams",
        [
            Try(f"{api}.STREAM.{verb}.{stream}", _json(name=stream, subjects=["evil.>"]))
            for api in _APIS
            for verb in ("CREATE", "UPDATE", "RESTORE", "SNAPSHOT", "LEADER.STEPDOWN")
            for stream in _STREAMS
        ],
        "answer",
    )
    yield Attack(
        "record actions as somebody else",
        [Try(f"nix.action.{user}.evil", b"{}") for user in ("_", *ROLES, "other", "*", ">")],
        "answer",
    )
    event = {
        "Nats-Msg-Id": "5f1cba2a-6d49-4f44-9d0f-3a6c0d1c2b3a",
        "X-Domain": "nix",
        "X-Event-Type": "FlakeCreated",
        "X-Aggregate-ID": "evil",
        "X-Aggregate-Version": "1",
    }
    yield Attack(
        "write the log, the events and what is parked",
        [
            Try(subject, b'{"path": "evil", "description": ""}', "", event)
            for subject in (
                *("nix.log.flake.evil", "nix.log.flake.one", "nix.event.flake.created"),
                *("nix.parked.cmd.flake.create", "nix.parked.event.subscriber.flake.created"),
            )
        ],
        "answer",
    )
    yield Attack(
        "write keys, snapshots, outcomes and configuration",
        [
            Try(f"$KV.NIX_{key}", b'"debug"')
            for key in (
                *(f"KEYS.{KEY_OWNER}", "SNAPSHOTS.flake.one", "OUTCOMES.one"),
                *("CONFIG.feed.position", "CONFIG.log_level", "CONFIG.projections.paused"),
            )
        ],
        "answer",
    )
    yield Attack(
        "send commands",
        [
            Try("nix.cmd.flake.create", b'{"path": "evil", "description": ""}'),
            Try("nix.cmd.config.activate", b'{"activation": "boot"}', "", {"X-Aggregate-ID": "h"}),
            Try("nix.cmd.config.rollback", b"{}", "", {"X-Aggregate-ID": "h"}),
        ],
        "answer",
    )
    yield Attack(
        "forge answers to others, and announce a service",
        [
            Try(subject, b'{"stream": "NIX_LOG", "seq": 1}')
            for subject in (
                *("_INBOX.service.1", "_INBOX_c.admin.1", "_R_.1.1", "discovery.announce"),
                *(OTHERS_INBOX.format(role=role) for role in ROLES),
            )
        ],
        "answer",
    )
    yield Attack(
        "empty a bucket or a stream by a header of one's own message",
        [
            Try(subject, payload, "", {"Nats-Rollup": reach, "X-Aggregate-ID": "none"})
            for subject, payload in (
                ("nix.cmd.flake.update", b"{}"),
                ("$KV.NIX_CONFIG.log_level", b'"no level"'),
                ("nix.action._.evil", b"{}"),
            )
            for reach in ("all", "sub")
        ],
    )
    yield Attack("retry others' events", [Try("nix.retry.subscriber", b'{"sequence": 1}')])


def _reading() -> Iterator[Attack]:
    """Read what is others'."""
    for stream, what in (
        ("KV_NIX_KEYS", "keys of personal data"),
        ("NIX_LOG", "the log"),
        ("NIX_CMD", "others' commands"),
        ("NIX_PARKED", "what is parked"),
        ("NIX_TIMER", "others' timers"),
        ("KV_NIX_SNAPSHOTS", "snapshots"),
        ("KV_NIX_CONFIG", "configuration"),
    ):
        last = _json(last_by_subj=">")
        yield Attack(
            f"read {what}",
            [
                *(Try(f"{api}.STREAM.MSG.GET.{stream}", last) for api in _APIS),
                *(Try(f"{api}.DIRECT.GET.{stream}", last) for api in _APIS),
                *(Try(f"{api}.DIRECT.GET.{stream}.$KV.NIX_KEYS.{KEY_OWNER}") for api in _APIS),
                *(Try(f"{api}.STREAM.INFO.{stream}") for api in _APIS),
                *(
                    Try(
                        f"{api}.CONSUMER.CREATE.{stream}.evil",
                        _json(stream_name=stream, config={"name": "evil"}, action="create"),
                    )
                    for api in _APIS
                ),
            ],
            "answer",
        )
    yield from _copying()
    yield Attack("ask queries", [Try("nix.query.flake.list", b"{}")], "answer")
    yield Attack(
        "list streams and consumers",
        [
            Try(f"{api}.{verb}")
            for api in _APIS
            for verb in (
                *("INFO", "STREAM.LIST", "STREAM.NAMES", "CONSUMER.LIST.NIX_LOG"),
                *("CONSUMER.NAMES.NIX_CMD", "CONSUMER.INFO.NIX_CMD.worker"),
            )
        ],
        "answer",
    )


def _copying() -> Iterator[Attack]:
    """Have the server send a whole stream, to wherever the request says, or make one."""
    targets = ("_INBOX_c.reader.copied", "nix.log.flake.evil", "nix.cmd.flake.create", "evil")
    yield Attack(
        "have whole streams sent, also to elsewhere",
        [
            Try(f"{api}.STREAM.SNAPSHOT.{stream}", _json(deliver_subject=target))
            for api in _APIS
            for stream in _STREAMS
            for target in targets
        ],
        "answer",
    )
    state = {"messages": 0, "bytes": 0, "first_seq": 0, "last_seq": 0}
    config = {"name": "EVIL", "subjects": ["evil.>"], "storage": "file", "num_replicas": 1}
    restored = _json(config=config, state=state)
    yield Attack(
        "restore a stream",
        [
            *(Try(f"{api}.STREAM.RESTORE.EVIL", restored) for api in _APIS),
            *(Try(f"$JS.SNAPSHOT.{verb}.NIX_LOG.token") for verb in ("ACK", "RESTORE")),
        ],
        "answer",
    )
    yield Attack(
        "hear a backup or a restore",
        [Try(f"$JS.SNAPSHOT.{verb}.>", listens=True) for verb in ("ACK", "RESTORE")],
        "hear",
    )


def _hearing() -> Iterator[Attack]:
    """Listen to others."""
    yield Attack(
        "hear others' inboxes",
        [
            Try(subject, listens=True)
            for subject in (
                *("_INBOX.>", "_INBOX.*.*", "_INBOX_c.>", "_INBOX_c.*.>", "_R_.>", ">", "*.>"),
                *(f"_INBOX_c.{role}.>" for role in ROLES),
            )
        ],
        "hear",
    )
    yield Attack(
        "hear the log, commands, queries and the server",
        [
            Try(subject, listens=True)
            for subject in (
                *("nix.>", "nix.log.>", "nix.cmd.>", "nix.query.>", "nix.parked.>", "nix.api.>"),
                *("$KV.>", "$JS.>", "$JS.EVENT.>", "$SYS.>", "$SRV.>", "health.>", "metrics.>"),
                *("nix.retry.>", "nix.timer.>", "nix.due.>"),
            )
        ],
        "hear",
    )


def _consumers() -> Iterator[Attack]:
    """Consumers that push, and those of others."""
    targets = ("nix.cmd.flake.create", "nix.event.flake.created", "$JS.API.STREAM.DELETE.NIX_LOG")
    pushing = [
        (stream, name, {"deliver_subject": target, "deliver_policy": "all", **how})
        for stream, name in (("NIX_LOG", "evil"), ("NIX_EVENT", "subscriber"), ("NIX_CMD", "evil"))
        for target in (*targets, "health.nix", "_INBOX_c.{role}.pushed", "nix.retry.subscriber")
        for how in ({"name": name}, {"durable_name": name, "headers_only": True})
    ]
    yield Attack(
        "make a consumer that pushes",
        [
            Try(
                f"{api}.CONSUMER.{verb}.{stream}.{name}",
                _json(stream_name=stream, config=config, action="create"),
            )
            for api in _APIS
            for verb in ("CREATE", "DURABLE.CREATE")
            for stream, name, config in pushing
        ],
        "answer",
    )
    yield Attack(
        "keep a consumer on the log, or one with an odd setting",
        [
            Try(
                "nix.api.CONSUMER.CREATE.NIX_LOG.evil",
                _json(stream_name=stream, config=config, action=action),
            )
            for stream, config, action in (
                ("NIX_LOG", {"durable_name": "evil"}, "create"),
                ("NIX_LOG", {"name": "evil", "inactive_threshold": 10**18}, "create"),
                ("NIX_LOG", {"name": "evil", "ack_policy": "explicit"}, "create"),
                ("NIX_LOG", {"name": "other", "inactive_threshold": 10**9}, "create"),
                ("NIX_CMD", {"name": "evil", "inactive_threshold": 10**9}, "create"),
                ("NIX_LOG", {"name": "evil", "flow_control": True}, "create"),
            )
        ],
        "answer",
    )
    yield Attack(
        "take from, acknowledge for and delete others' consumers",
        [
            *(
                Try(f"{api}.CONSUMER.{verb}", b'{"batch": 1, "no_wait": true}')
                for api in _APIS
                for verb in (
                    *("MSG.NEXT.NIX_CMD.worker", "MSG.NEXT.NIX_EVENT.stale-builds"),
                    *("DELETE.NIX_CMD.worker", "DELETE.NIX_EVENT.stale-builds"),
                    *("DELETE.NIX_LOG.evil", "PAUSE.NIX_CMD.worker", "RESET.NIX_CMD.worker"),
                )
            ),
            *(
                Try(f"$JS.ACK.{consumer}.1.1.1.1795885225248901076.0", payload)
                for consumer in ("NIX_CMD.worker", "NIX_EVENT.stale-builds", "NIX_EVENT.other")
                for payload in (b"", b"+ACK", b"-NAK", b"+TERM", b"+NXT")
            ),
        ],
        "answer",
    )


def _timers() -> Iterator[Attack]:
    """Have the server send what one may not: the publisher of a schedule chooses its target."""
    now = {"Nats-Schedule": "@at 1970-01-01T00:00:00Z", "X-Aggregate-ID": "h"}
    allowed, activation = "nix.timer.evil.flake.update", b'{"activation": "boot"}'
    yield Attack(
        "set a timer for a command of others",
        [
            Try(subject, b"{}", "", {**now, "Nats-Schedule-Target": "nix.due.config.rollback"})
            for subject in (
                *("nix.timer.evil.config.rollback", f"nix.timer.{TIMER}.config.rollback"),
                *("nix.due.config.rollback", "nix.timer.evil", f"nix.timer.{TIMER}"),
                *(f"nix.api.TIMER.SET.{role}.evil.config.rollback" for role in ROLES),
                "nix.api.TIMER.ANY.evil.config.rollback",
            )
        ],
        "answer",
    )
    targets = (
        *("nix.due.config.activate", "nix.cmd.config.activate", "nix.log.flake.evil"),
        *(f"nix.timer.{TIMER}.config.rollback", f"nix.timer.{TIMER}"),
        *("$JS.API.STREAM.DELETE.NIX_LOG", "nix.due.>"),
    )
    yield Attack(
        "aim a timer for a command of one's own at another",
        [
            Try(allowed, activation, "", {**now, "Nats-Schedule-Target": target, **more})
            for target in targets
            for more in ({}, {"nats-schedule-target": target})
        ],
    )
    yield Attack(
        "delete or replace others' timers by a header or a name of one's own",
        [
            Try(subject, b"{", "", {**now, "Nats-Schedule-Target": "nix.due.flake.update", **more})
            for subject in (allowed, f"nix.timer.{TIMER}.flake.update")
            for more in (
                *({"Nats-Rollup": "all"}, {"Nats-Rollup": "sub"}),
                {"Nats-Scheduler": f"nix.timer.{TIMER}", "Nats-Schedule-Next": "purge"},
                {"Nats-Schedule-Source": f"nix.timer.{TIMER}"},
                {"Nats-Schedule-Rollup": "all"},
            )
        ],
    )
    yield Attack(
        "read and cancel others' timers",
        [
            Try(subject, payload)
            for subject in (
                *(f"{api}.STREAM.MSG.{verb}.NIX_TIMER" for api in _APIS for verb in _VERBS),
                *(f"nix.api.TIMER.{verb}.{role}" for verb in _VERBS for role in ROLES),
            )
            for payload in (
                _json(seq=1),
                _json(last_by_subj=f"nix.timer.{TIMER}"),
                _json(last_by_subj=f"nix.timer.:{TIMER}"),
                _json(last_by_subj="nix.timer.*"),
            )
        ],
        "answer",
    )


_VERBS = ("GET", "DELETE")


def _json(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def _matches(pattern: Sequence[str], subject: Sequence[str]) -> bool:
    if pattern[-1] == ">":
        head = len(pattern) - 1
        return len(subject) > head and _matches([*pattern[:-1], ""], [*subject[:head], ""])
    return len(pattern) == len(subject) and all(
        wanted in ("*", token) for wanted, token in zip(pattern, subject, strict=True)
    )
