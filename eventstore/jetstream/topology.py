"""The topology: the streams and buckets of a domain, declared once, created if missing.

A stream that exists with other settings is reported (`StreamDrift`), never changed or deleted; one
of another application, too (`ForeignStream`). Only the note of its owner is brought up to date, and
settings that no earlier release knew are added. A log that is gone is not created again, if others
show that there was one (`LogMissing`).
Key-value buckets follow the conventions of ADR-8, so that any NATS client can open them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from eventstore.client.api_answers import ConsumerInfo, StreamInfo
from eventstore.client.client import Client
from eventstore.config import StreamSettings
from eventstore.decider.domain import Domain
from eventstore.errors import JetStreamError, LogMissing, StreamDrift, TopologyError
from eventstore.jetstream.api import (
    create_consumer,
    create_stream,
    find_consumer,
    find_stream,
    stream_info,
    update_stream,
)
from eventstore.jetstream.ownership import Owner, claim
from eventstore.jetstream.vocabulary import (
    TRANSIENT,
    ErrorCode,
    bucket_stream,
    bucket_subject,
)
from eventstore.messages.subjects import Subjects
from eventstore.messages.text import make_log_records_safe

_SECOND = 1_000_000_000
_MILLISECOND = 1_000_000
_DAY = 86_400 * _SECOND
_MAX_ACTION_BYTES = 16 * 1024

_logger = make_log_records_safe(logging.getLogger(__name__))


class ConsumerSpec(Struct, frozen=True):
    """A declared durable consumer; `settings` and `initial` are as in `StreamSpec`."""

    stream: str
    name: str
    settings: Mapping[str, Any]
    initial: Mapping[str, Any] = MappingProxyType({})


class StreamSpec(Struct, frozen=True):
    """A declared stream: its name and its significant settings, as in the server's JSON.

    `initial` are settings for its creation only; a later difference is no drift. `later` are the
    names of settings that a stream of an earlier release lacks, and gets. `owner` is the
    application that it belongs to, if that is known. `is_history` is the log, and `is_apart` what
    may have been there before it: all others are filled from it, or by who reads it.
    """

    name: str
    settings: Mapping[str, Any]
    initial: Mapping[str, Any] = MappingProxyType({})
    later: tuple[str, ...] = ()
    owner: Owner | None = None
    is_history: bool = False
    is_apart: bool = False

    @property
    def request(self) -> dict[str, Any]:
        """The body of the request that creates it."""
        noted = {} if self.owner is None else {"metadata": self.owner.noted_in({})}
        return {"name": self.name, **self.settings, **self.initial, **noted}


# The server omits settings with a zero value from its answers.
_ABSENT: dict[str, object] = {
    "sealed": False,
    "no_ack": False,
    "deny_delete": False,
    "deny_purge": False,
    "allow_direct": False,
    "allow_atomic": False,
    "allow_rollup_hdrs": False,
    "allow_msg_schedules": False,
    "discard_new_per_subject": False,
    "compression": "none",
}


def topology(
    subjects: Subjects, settings: StreamSettings, domain: Domain | None = None
) -> list[StreamSpec]:
    """All streams and buckets of a domain.

    With `domain`, they belong to it alone, by its declared name: other applications are refused.
    """
    owner = None if domain is None else Owner.of(domain)
    specs = [
        _log(subjects, settings),
        _timers(subjects, settings),
        _commands(subjects, settings),
        _feed(subjects, settings),
        _parked(subjects, settings),
        _bucket(subjects.snapshot_bucket, settings),
        _outcomes(subjects, settings),
        _bucket(subjects.config_bucket, settings),
        _keys(subjects, settings),
        _actions(subjects, settings),
    ]
    return [replace(spec, owner=owner) for spec in specs]


async def declare(
    client: Client, specs: Iterable[StreamSpec], *, new_log: bool = False
) -> list[str]:
    """Create missing streams, and check existing ones; returns the names of the created ones.

    Safe to call from several processes concurrently. Raises, before anything is created,
    `ForeignStream` if any stream belongs to another application, and `LogMissing` if the log is
    gone and others were used, unless a `new_log` is wanted; `StreamDrift` for the first one that
    differs, `TopologyError` if the server refuses one, and `ClientError` while that has no leader
    or too few replicas: streams created before that remain.
    Owners are noted last, in the metadata of streams that lack them (see `ownership.claim`).
    """
    declared = tuple(specs)
    found = {spec.name: await find_stream(client, spec.name) for spec in declared}
    for spec in declared:
        _check_owner(spec, found[spec.name])
    if not new_log:
        _check_history(declared, found)
    created = []
    for spec in declared:
        info = found[spec.name]
        if info is None:
            info = found[spec.name] = await _create(client, spec)
            created.append(spec.name)
            _check_owner(spec, info)  # another process may have been faster
        info = found[spec.name] = await _extend(client, spec, info)
        _check_drift(spec.name, spec.settings, info.config)
    for spec in declared:
        info = found[spec.name]
        if spec.owner is not None and info is not None:
            await claim(client, spec.owner, info)
    return created


async def check(client: Client, specs: Iterable[StreamSpec]) -> None:
    """Raise `StreamMissing`, `ForeignStream` or `StreamDrift` unless all are as declared."""
    for spec in specs:
        found = await stream_info(client, spec.name)
        _check_owner(spec, found)
        _check_drift(spec.name, spec.settings, found.config)


async def declare_consumer(client: Client, spec: ConsumerSpec) -> ConsumerInfo:
    """Create a durable consumer, or check the existing one.

    Raises `StreamDrift` if it differs, `StreamMissing` if its stream does not exist.
    """
    stream, name = spec.stream, spec.name
    found: ConsumerInfo | None
    try:
        found = await create_consumer(client, stream, name, {**spec.settings, **spec.initial})
    except JetStreamError as error:
        if error.err_code != ErrorCode.CONSUMER_EXISTS:
            raise
        found = await find_consumer(client, stream, name)
        if found is None:
            raise
    _check_drift(f"{stream} consumer {name}", spec.settings, found.config)
    return found


async def limit_messages(client: Client, stream: str, limit: int) -> bool:
    """Set the maximum number of messages of a stream; returns whether that was a change.

    A stream that discards new messages removes none. Raises `StreamMissing` and `ClientError`.
    """
    config = (await stream_info(client, stream)).config
    if config.get("max_msgs") == limit:
        return False
    await update_stream(client, stream, {**config, "max_msgs": limit})
    return True


def _check_history(specs: Iterable[StreamSpec], found: Mapping[str, StreamInfo | None]) -> None:
    """Raise `LogMissing` if the log does not exist, and others show that it did."""
    missing = [spec.name for spec in specs if spec.is_history and found[spec.name] is None]
    apart = {spec.name for spec in specs if spec.is_apart}
    used = [each for each in found.values() if each is not None and each.state.last_seq]
    others = [each for each in used if each.name not in apart]
    if missing and others:
        named = ", ".join(f"{each.name} ({each.state.last_seq:,} messages)" for each in others)
        raise LogMissing(missing[0], f"others of its domain were used since: {named}")


def _check_owner(spec: StreamSpec, found: StreamInfo | None) -> None:
    if spec.owner is not None and found is not None:
        spec.owner.check(found)


async def _create(client: Client, spec: StreamSpec) -> StreamInfo:
    try:
        return await create_stream(client, spec.name, spec.request)
    except JetStreamError as error:
        if error.err_code == ErrorCode.STREAM_NAME_IN_USE:  # another process was faster
            found = await find_stream(client, spec.name)
            if found is not None:
                return found
        if error.err_code in TRANSIENT:
            raise
        text = f"the server refuses stream {spec.name}: {error.description}"
        if error.err_code == ErrorCode.SUBJECT_OVERLAP:
            text += f"; another stream already has one of {', '.join(spec.settings['subjects'])}"
        raise TopologyError(text) from error


async def _extend(client: Client, spec: StreamSpec, info: StreamInfo) -> StreamInfo:
    """Add the settings that an earlier release did not know to a stream."""
    missing = {name: spec.settings[name] for name in spec.later if not info.config.get(name)}
    if not missing:
        return info
    _logger.info("stream %s gets the settings %s", spec.name, ", ".join(missing))
    return await update_stream(client, spec.name, {**info.config, **missing})


def _check_drift(name: str, declared: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    differences = {
        setting: (value, found.get(setting, _ABSENT.get(setting)))
        for setting, value in declared.items()
        if found.get(setting, _ABSENT.get(setting)) != value
    }
    if differences:
        raise StreamDrift(name, differences)


def _common(settings: StreamSettings) -> dict[str, Any]:
    return {
        "storage": "file",
        "num_replicas": settings.replicas,
        "compression": "s2" if settings.compression else "none",
        "retention": "limits",
        "discard": "new",
        "max_age": 0,
    }


def _log(subjects: Subjects, settings: StreamSettings) -> StreamSpec:
    return StreamSpec(
        subjects.log_stream,
        {
            **_common(settings),
            "subjects": [subjects.all_log],
            "max_bytes": -1,
            "max_msgs": -1,
            "max_msgs_per_subject": -1,
            "max_msg_size": -1,
            "no_ack": False,
            "sealed": False,
            "deny_delete": True,
            "deny_purge": True,
            "allow_rollup_hdrs": False,
            "allow_direct": True,
            "allow_atomic": True,
            "duplicate_window": settings.duplicate_window_ms * _MILLISECOND,
        },
        is_history=True,
    )


def _commands(subjects: Subjects, settings: StreamSettings) -> StreamSpec:
    return StreamSpec(
        subjects.command_stream,
        {
            **_common(settings),
            "subjects": [subjects.filter("cmd")],
            "retention": "workqueue",
            "duplicate_window": settings.duplicate_window_ms * _MILLISECOND,
            "sources": [_due_commands(subjects)],
        },
        {"max_msgs": settings.queue_limit},
        later=("sources",),
    )


def _timers(subjects: Subjects, settings: StreamSettings) -> StreamSpec:
    """The stream of timers: message schedules (ADR-51), and the commands of those that are due.

    The server accepts no schedules in a stream that discards new messages, so they cannot be in
    the command stream, which takes the due ones from here. A name holds one timer whatever its
    command is: that is in the subject it is set on, for permissions, and not in the stored one.
    """
    stored = {"src": subjects.new_timer("*", "*", "*"), "dest": subjects.timer("{{wildcard(1)}}")}
    return StreamSpec(
        subjects.timer_stream,
        {
            **_common(settings),
            "discard": "old",
            "subjects": [stored["src"], subjects.due()],
            "subject_transform": stored,
            "max_bytes": -1,
            "max_msgs": -1,
            "max_msgs_per_subject": -1,
            "allow_msg_schedules": True,
            "allow_direct": True,
        },
    )


def _due_commands(subjects: Subjects) -> dict[str, Any]:
    """The source of the command stream: commands of timers that are due."""
    queued = f"{subjects.domain}.cmd.{{{{wildcard(1)}}}}.{{{{wildcard(2)}}}}"
    transform = {"src": subjects.due(), "dest": queued}
    return {"name": subjects.timer_stream, "subject_transforms": [transform]}


def _feed(subjects: Subjects, settings: StreamSettings) -> StreamSpec:
    return StreamSpec(
        subjects.event_stream,
        {
            **_common(settings),
            "subjects": [subjects.filter("event")],
            "discard": "old",
            "max_age": settings.event_max_age_days * _DAY,
            "allow_direct": True,
            "allow_atomic": True,
            "duplicate_window": settings.duplicate_window_ms * _MILLISECOND,
        },
    )


def _parked(subjects: Subjects, settings: StreamSettings) -> StreamSpec:
    return StreamSpec(
        subjects.parked_stream,
        {
            **_common(settings),
            "subjects": [subjects.all_parked],
            "allow_direct": True,
        },
    )


def _actions(subjects: Subjects, settings: StreamSettings) -> StreamSpec:
    """The record of actions: of each one its beginning and its end, which nobody can change."""
    return StreamSpec(
        subjects.action_stream,
        {
            **_common(settings),
            "subjects": [subjects.all_actions],
            "max_bytes": -1,
            "max_msgs": -1,
            "max_msgs_per_subject": 2,
            "discard_new_per_subject": True,
            "max_msg_size": _MAX_ACTION_BYTES,
            "deny_delete": True,
            "deny_purge": True,
            "allow_rollup_hdrs": False,
            "allow_direct": True,
        },
    )


def _bucket(name: str, settings: StreamSettings, *, max_age: int = 0) -> StreamSpec:
    return StreamSpec(
        bucket_stream(name),
        {
            **_common(settings),
            "subjects": [bucket_subject(name, ">")],
            "max_age": max_age,
            "max_msgs_per_subject": 1,
            "deny_delete": True,
            "allow_rollup_hdrs": True,
            "allow_direct": True,
        },
    )


def _outcomes(subjects: Subjects, stream_settings: StreamSettings) -> StreamSpec:
    """A bucket whose texts can be erased (`parking.erasure`), unless an earlier release made it.

    `deny_delete` cannot be undone.
    """
    max_age = stream_settings.outcome_max_age_days * _DAY
    spec = _bucket(subjects.outcome_bucket, stream_settings, max_age=max_age)
    settings = {name: value for name, value in spec.settings.items() if name != "deny_delete"}
    return StreamSpec(spec.name, settings, {"deny_delete": False})


def _keys(subjects: Subjects, settings: StreamSettings) -> StreamSpec:
    """A bucket whose keys can be destroyed (`eventstore.store.key_bucket`)."""
    return StreamSpec(
        bucket_stream(subjects.key_bucket),
        {
            **_common(settings),
            "compression": "none",
            "subjects": [bucket_subject(subjects.key_bucket, ">")],
            "max_msgs_per_subject": 2,
            "deny_delete": False,
            "deny_purge": False,
            "allow_direct": False,
        },
        is_apart=True,  # restored before a log is imported
    )
