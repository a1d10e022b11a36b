"""The manifest: what a backup has, with the digest of every file; written after each part."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from eventstore.client.api_answers import Count
from eventstore.config.private_files import open_private
from eventstore.errors import BackupDamaged, RestoreRefused
from eventstore.jetstream.stream_snapshot import SnapshotOrigin
from eventstore.messages.undecodable import UNDECODABLE
from eventstore.projections.feed.position import FeedPoint

FORMAT = 1
"""The version of the form of backups that this release writes, and the newest that it reads."""

NAME = "backup.json"
"""The manifest's file."""

Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class BackupSummary(Struct, frozen=True):
    """What a backup has: the number of events, messages in all, and bytes on the disk.

    `began` is when it began (RFC 3339), and `server` the version of nats-server that made it.
    """

    domain: str
    events: int
    messages: int
    bytes: int
    read_model: bool
    began: str
    server: str


class CopiedFile(Struct, frozen=True, forbid_unknown_fields=True):
    """A file's size in bytes, and its SHA-256."""

    bytes: Count
    sha256: Digest


class StreamPart(Struct, frozen=True, forbid_unknown_fields=True):
    """A stream's name, when it was created, what it was then, and the file of its snapshot."""

    name: str
    created: str
    origin: SnapshotOrigin
    file: CopiedFile


class Manifest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A backup of a domain; complete when it has `ended`.

    `id` names it in what is restored from it. `feed` says which position of the log the end of the
    event stream was, if there was an event. `release` and `server` are versions.
    """

    format: int = FORMAT
    id: Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
    domain: str
    release: str
    server: str
    began: str
    ended: str | None = None
    streams: Sequence[StreamPart] = ()
    read_model: CopiedFile | None = None
    feed: FeedPoint | None = None
    sha256: str = ""

    @property
    def bytes(self) -> int:
        """The size of all files."""
        files = [*(part.file for part in self.streams), self.read_model]
        return sum(each.bytes for each in files if each is not None)

    def part(self, stream: str) -> StreamPart | None:
        """The part of a stream, if that was copied."""
        return next((part for part in self.streams if part.name == stream), None)

    def summary(self, log_stream: str) -> BackupSummary:
        """What it has."""
        log = self.part(log_stream)
        return BackupSummary(
            domain=self.domain,
            events=0 if log is None else log.origin.messages,
            messages=sum(part.origin.messages for part in self.streams),
            bytes=self.bytes,
            read_model=self.read_model is not None,
            began=self.began,
            server=self.server,
        )

    def write(self, directory: Path) -> None:
        """Write it in place of the former one; raises `OSError`."""
        path = directory / NAME
        new = path.with_suffix(".new")
        sealed = msgspec.json.format(msgspec.json.encode(self._sealed()), indent=1)
        with open(new, "wb", opener=open_private) as file:
            file.write(sealed + b"\n")
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)

    @classmethod
    def read(cls, directory: Path) -> Manifest:
        """Read it; raises `BackupDamaged`, and `RestoreRefused` for a newer form."""
        path = directory / NAME
        try:
            content = path.read_bytes()
        except OSError as error:
            raise BackupDamaged(
                f"{directory} is no backup: {NAME} cannot be read: {error.strerror}"
            ) from error
        try:
            found = msgspec.json.decode(content, type=_AnyFormat).format
            if found > FORMAT:
                raise RestoreRefused(
                    f"{path} has format {found}, and this release reads up to {FORMAT}: restore it "
                    "with the release that made it, or a newer one"
                )
            manifest = msgspec.json.decode(content, type=cls)
        except UNDECODABLE as error:
            raise BackupDamaged(f"{path} was changed or is incomplete: {error}") from error
        if manifest._sealed() != manifest:
            raise BackupDamaged(f"{path} was changed: its checksum differs")
        return manifest

    def _sealed(self) -> Manifest:
        bare = replace(self, sha256="")
        return replace(bare, sha256=hashlib.sha256(msgspec.json.encode(bare)).hexdigest())


class _AnyFormat(Struct, frozen=True):
    """What manifests of all releases have."""

    format: Annotated[int, Meta(ge=1)]
