"""Restores a backup where nothing is, part by part, so that an interrupted restore can go on.

Until all is there, the log listens on subjects that nobody knows: nobody can write to it, and no
service starts on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from eventstore.backup.check import checked_manifest
from eventstore.backup.contents import READ_MODEL, all_streams, snapshot_file
from eventstore.backup.files import Progress, blocks, check_file, new_file
from eventstore.backup.manifest import Manifest, StreamPart
from eventstore.client.api_answers import CREATED_NOTE, StreamInfo
from eventstore.client.client import Client
from eventstore.config.private_files import ensure_private_directory
from eventstore.errors import RestoreRefused, TransferError
from eventstore.jetstream.api import find_stream, update_stream
from eventstore.jetstream.retry import Retry
from eventstore.jetstream.stream_snapshot import restore_bytes, restore_snapshot
from eventstore.messages.subjects import Subjects
from eventstore.messages.text import counted
from eventstore.projections.feed.position import FeedPosition

_RETRY_SECONDS = 120.0
_ORIGIN = "eventstore.backup"
"""The name in a stream's metadata of the backup that it was restored from."""

_SQLITE_FILES = ("", "-wal", "-shm", "-journal")


class RestoreSummary(Struct, frozen=True):
    """What was restored: the number of events, messages in all, and whether read models were.

    `began` is when the backup began.
    """

    events: int
    messages: int
    read_model: bool
    began: str


async def restore(
    client: Client,
    subjects: Subjects,
    directory: Path,
    *,
    replicas: int = 1,
    read_model: Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> RestoreSummary:
    """Restore all streams and buckets of a domain, and a read model in SQLite if a path is given.

    Streams are as they were, with all sequences and times, but for `replicas`, which is those of
    the servers here. No stream of the domain, and no read model, may exist; with `resume`, those
    that an interrupted restore of the same backup has left are kept.

    Raises what `check_backup` raises, and `RestoreRefused`, before anything is changed; later
    `TransferError`, or a `ClientError` if a stream cannot be restored for two minutes.
    """
    report = progress or (lambda *_: None)
    manifest = await checked_manifest(directory, subjects, report)
    restorer = _Restorer(client, subjects, directory, manifest, replicas, report)
    await restorer.check(read_model, resume=resume)
    await restorer.restore(read_model)
    log = manifest.part(subjects.log_stream)
    return RestoreSummary(
        events=0 if log is None else log.origin.messages,
        messages=sum(part.origin.messages for part in manifest.streams),
        read_model=read_model is not None and manifest.read_model is not None,
        began=manifest.began,
    )


class _Restorer:
    """One restore of a backup that was checked."""

    def __init__(
        self,
        client: Client,
        subjects: Subjects,
        directory: Path,
        manifest: Manifest,
        replicas: int,
        report: Progress,
    ) -> None:
        self._client = client
        self._subjects = subjects
        self._directory = directory
        self._manifest = manifest
        self._replicas = replicas
        self._report = report
        self._fenced = [f"{subjects.importing}restore.{manifest.id}"]

    async def check(self, read_model: Path | None, *, resume: bool) -> None:
        """Raise `RestoreRefused` if there is anything that this restore has not left."""
        found = [await find_stream(self._client, name) for name in all_streams(self._subjects)]
        there = [info for info in found if info is not None]
        foreign = [info for info in there if not (resume and self._is_ours(info))]
        if foreign:
            begun = "" if resume or not all(map(self._is_ours, there)) else _RESUMABLE
            listed = ", ".join(
                f"{info.name} ({counted(info.state.messages, 'message')})" for info in foreign
            )
            raise RestoreRefused(
                f"the domain {self._subjects.domain} is not empty here; it has {listed}. Stop "
                "its services and delete these streams, or restore on a server with an empty "
                f"store{begun}"
            )
        if read_model is not None and self._manifest.read_model is not None:
            await self._check_read_model(read_model, resume=resume)

    async def restore(self, read_model: Path | None) -> None:
        """Restore what is not there yet, the log first, and let everybody write to it at last."""
        log = self._subjects.log_stream
        found = await find_stream(self._client, log)
        if found is not None and found.subjects != self._fenced:
            return  # all of it was restored before, and may have been used since
        for name in sorted(all_streams(self._subjects), key=lambda name: name != log):
            part = self._manifest.part(name)
            if part is not None:
                work = f"restoring {name}"
                retry = Retry(self._client, work, _RETRY_SECONDS)
                await retry.run(lambda part=part: self._stream(part))  # type: ignore[misc]
        if self._manifest.feed is not None:
            await FeedPosition(self._client, self._subjects).save(self._manifest.feed)
        if read_model is not None and self._manifest.read_model is not None:
            await self._rows(read_model, self._manifest.read_model.bytes)
        await Retry(self._client, "ending a restore", _RETRY_SECONDS).run(self._open)

    async def _stream(self, part: StreamPart) -> None:
        if await find_stream(self._client, part.name) is not None:
            return  # of an interrupted restore
        changes: dict[str, Any] = {
            "num_replicas": self._replicas,
            "metadata": {
                **part.origin.config.get("metadata", {}),
                _ORIGIN: self._manifest.id,
                CREATED_NOTE: part.created,
            },
        }
        if part.name == self._subjects.log_stream:
            changes["subjects"] = self._fenced
        path = self._directory / snapshot_file(part.name)
        restored = await restore_snapshot(
            self._client, part.origin, changes, self._chunks(path, part)
        )
        self._check_restored(part, restored)

    def _chunks(self, path: Path, part: StreamPart) -> Any:
        done = 0
        for block in blocks(path, restore_bytes(self._client)):
            done += len(block)
            self._report(f"restoring {part.name}", done, part.file.bytes)
            yield block

    def _check_restored(self, part: StreamPart, restored: StreamInfo) -> None:
        """The log is exactly as it was; elsewhere old messages may have expired at once."""
        expected, found = part.origin, restored.state
        differs = found.last_seq < expected.last
        if part.name == self._subjects.log_stream:
            differs |= (found.messages, found.last_seq) != (expected.messages, expected.last)
        if differs:
            raise TransferError(
                f"{part.name} ends at {found.last_seq} with {counted(found.messages, 'message')} "
                f"instead of at {expected.last} with {expected.messages:,}: the backup cannot be "
                "restored by this server; restore by the release that made it, "
                f"nats-server {self._manifest.server}"
            )

    async def _open(self) -> None:
        """Give the log its subjects back."""
        info = await find_stream(self._client, self._subjects.log_stream)
        if info is None:
            raise TransferError(f"{self._subjects.log_stream} was deleted during the restore")
        if info.subjects == self._fenced:
            config: Mapping[str, Any] = {**info.config, "subjects": [self._subjects.all_log]}
            await update_stream(self._client, info.name, config)

    def _is_ours(self, info: StreamInfo) -> bool:
        return info.metadata.get(_ORIGIN) == self._manifest.id

    async def _check_read_model(self, path: Path, *, resume: bool) -> None:
        there = [Path(f"{path}{suffix}") for suffix in _SQLITE_FILES]
        there = [each for each in there if await asyncio.to_thread(each.exists)]
        if not there or (resume and there == [path] and await self._is_restored(path)):
            return
        raise RestoreRefused(
            f"a read model is there already: {', '.join(map(str, there))}. Move it away, or let "
            "the service rebuild it: --without-read-model"
        )

    async def _is_restored(self, path: Path) -> bool:
        expected = self._manifest.read_model
        try:
            if expected is not None:
                await check_file(path, expected, self._report)
        except TransferError:
            return False
        return True

    async def _rows(self, path: Path, total: int) -> None:
        if await asyncio.to_thread(path.exists):
            return  # of an interrupted restore
        new = path.with_name(f"{path.name}.restored")
        try:
            ensure_private_directory(path.parent)
            with new_file(new) as file:
                for block in blocks(self._directory / READ_MODEL):
                    file.write(block)
                    await asyncio.sleep(0)
                    self._report("restoring the read model", file.bytes, total)
                file.copied()
            new.replace(path)
        except OSError as error:
            raise TransferError(f"read model {path} cannot be written: {error}") from error


_RESUMABLE = ", or continue the interrupted restore of this backup with --continue"
