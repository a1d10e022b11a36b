"""Makes a backup, part by part, so that an interrupted one can be continued."""

from __future__ import annotations

import os
import secrets
from importlib.metadata import version
from pathlib import Path

from msgspec.structs import replace

from eventstore.backup.check import check_domain, check_files
from eventstore.backup.contents import (
    READ_MODEL,
    after_read_model,
    all_streams,
    before_read_model,
    snapshot_file,
)
from eventstore.backup.files import Progress, digest_of, locked_directory, new_file
from eventstore.backup.manifest import NAME, BackupSummary, Manifest, StreamPart
from eventstore.backup.read_model import copy_read_model
from eventstore.client.client import Client
from eventstore.errors import TransferError
from eventstore.jetstream.api import stream_info
from eventstore.jetstream.retry import Retry
from eventstore.jetstream.stored_message import StoredMessage, leader_get
from eventstore.jetstream.stream_snapshot import SnapshotOrigin, take_snapshot
from eventstore.messages.envelope import format_timestamp, utc_now
from eventstore.messages.headers import position_of
from eventstore.messages.subjects import Subjects
from eventstore.messages.text import counted
from eventstore.projections.feed.position import FeedPoint
from eventstore.store.batches import is_followed
from eventstore.store.key_bucket import KeyBucket

_RETRY_SECONDS = 120.0
_MAX_TRIES = 50


async def back_up(
    client: Client,
    subjects: Subjects,
    directory: Path,
    *,
    read_model: Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> BackupSummary:
    """Copy all streams and buckets of a domain, and a read model in SQLite, to a new directory.

    Services may run meanwhile (`contents` says why that is consistent). With `resume` an
    interrupted backup is continued after its last complete part; a complete one is only checked.
    The master keys are no part of it.

    Raises, before anything is written, `TransferError` for a directory that is not empty, or keys
    that no master key wraps, `RestoreRefused` for a backup of another domain, and `StreamMissing`.
    Later `BackupDamaged` if a part was changed, `TransferError`, or a `ClientError` if a stream
    cannot be copied for two minutes.
    """
    report = progress or (lambda *_: None)
    manifest = _found(directory, subjects, resume=resume)
    if manifest is None:
        _check_read_model(read_model)
        await _check_source(client, subjects)
        manifest = _new(client, subjects)
    with locked_directory(directory):
        await check_files(directory, manifest, report)
        if manifest.ended is None:
            copier = _Copier(client, directory, manifest, report)
            manifest = await copier.copy(subjects, read_model)
    return manifest.summary(subjects.log_stream)


class _Copier:
    """Copies what a manifest lacks, and writes the manifest after each part."""

    def __init__(
        self, client: Client, directory: Path, manifest: Manifest, report: Progress
    ) -> None:
        self._client = client
        self._directory = directory
        self._manifest = manifest
        self._report = report

    async def copy(self, subjects: Subjects, read_model: Path | None) -> Manifest:
        self._write(self._manifest)
        for stream in before_read_model(subjects):
            await self._stream(stream, feeds=stream == subjects.event_stream)
        if read_model is not None and self._manifest.read_model is None:
            await self._rows(read_model)
        for stream in after_read_model(subjects):
            await self._stream(stream)
        self._write(replace(self._manifest, ended=format_timestamp(utc_now())))
        return self._manifest

    async def _stream(self, stream: str, *, feeds: bool = False) -> None:
        if self._manifest.part(stream) is not None:
            return
        retry = Retry(self._client, f"backing up {stream}", _RETRY_SECONDS)
        part, last = await retry.run(lambda: self._snapshot(stream))
        position = position_of(last.headers) if feeds and last is not None else None
        feed = self._manifest.feed
        if position is not None:
            feed = FeedPoint(part.origin.last, position)
        streams = [*self._manifest.streams, part]
        self._write(replace(self._manifest, streams=streams, feed=feed))

    async def _snapshot(self, stream: str) -> tuple[StreamPart, StoredMessage | None]:
        """A snapshot that does not end within an atomic batch, and its last message.

        On one replica the server may take it while it stores a batch.
        """
        for _ in range(_MAX_TRIES):
            part = await self._attempt(stream)
            last = await self._last(stream, part.origin)
            if last is None or not is_followed(last.headers):
                return part, last
        raise TransferError(
            f"{stream} was within an atomic batch each of {_MAX_TRIES} times: try again when less "
            "is written"
        )

    async def _attempt(self, stream: str) -> StreamPart:
        info = await stream_info(self._client, stream)
        total = info.state.bytes  # before compression
        with new_file(self._directory / snapshot_file(stream)) as file:

            def write(chunk: bytes) -> None:
                file.write(chunk)
                self._report(stream, file.bytes, max(total, file.bytes))

            origin = await take_snapshot(self._client, stream, write)
            self._report(stream, file.bytes, file.bytes)
            return StreamPart(stream, info.first_created, origin, file.copied())

    async def _last(self, stream: str, origin: SnapshotOrigin) -> StoredMessage | None:
        if not origin.last:
            return None
        message = await leader_get(self._client, stream, {"seq": origin.last})
        return message if message is not None and message.sequence == origin.last else None

    async def _rows(self, source: Path) -> None:
        path = self._directory / READ_MODEL

        def report(done: int, total: int) -> None:
            self._report("read model", done, total)

        await copy_read_model(source, path, report)
        self._write(replace(self._manifest, read_model=await digest_of(path)))

    def _write(self, manifest: Manifest) -> None:
        try:
            manifest.write(self._directory)
        except OSError as error:
            raise TransferError(f"{self._directory} cannot be written: {error.strerror}") from error
        self._manifest = manifest


def _found(directory: Path, subjects: Subjects, *, resume: bool) -> Manifest | None:
    """The manifest of the backup to continue; None to begin one."""
    if not directory.exists() or (resume and not (directory / NAME).exists()):
        return None
    if not resume and (not directory.is_dir() or os.listdir(directory)):
        raise TransferError(
            f"{directory} is no empty directory: name another one, or continue an interrupted "
            "backup with --continue"
        )
    if not resume:
        return None
    manifest = Manifest.read(directory)
    check_domain(directory, manifest, subjects)
    return manifest


def _new(client: Client, subjects: Subjects) -> Manifest:
    return Manifest(
        id=secrets.token_hex(16),
        domain=subjects.domain,
        release=version("jetstream-eventstore"),
        server=client.server_version,
        began=format_timestamp(utc_now()),
    )


def _check_read_model(read_model: Path | None) -> None:
    if read_model is not None and not read_model.exists():
        raise TransferError(
            f"there is no read model {read_model}: name it with --database, or leave it out with "
            "--without-read-model"
        )


async def _check_source(client: Client, subjects: Subjects) -> None:
    """Raise what there is to say before anything is written."""
    found = {name: await stream_info(client, name) for name in all_streams(subjects)}
    if found[subjects.log_stream].subjects != [subjects.all_log]:
        raise TransferError(
            f"{subjects.log_stream} has an import or a restore in progress: let that end first"
        )
    last = {ref: entry async for ref, entry in KeyBucket(client, subjects).refs()}
    clear = sum(entry.is_key and entry.wrapped is None for entry in last.values())
    if clear:
        raise TransferError(
            f"{counted(clear, 'key')} of personal data would be in the backup in the clear: run "
            "`keys rewrap` first"
        )
