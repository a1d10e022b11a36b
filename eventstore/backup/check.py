"""The check of a backup: whether it is complete, unchanged, and of the domain."""

from __future__ import annotations

from pathlib import Path

from eventstore.backup.contents import READ_MODEL, all_streams, snapshot_file
from eventstore.backup.files import Progress, check_file
from eventstore.backup.manifest import BackupSummary, Manifest
from eventstore.errors import BackupDamaged, RestoreRefused
from eventstore.messages.subjects import Subjects


async def check_backup(
    directory: Path, subjects: Subjects, progress: Progress | None = None
) -> BackupSummary:
    """What a backup has, all of whose files are there and unchanged.

    Needs no server. Raises `BackupDamaged` for one that is incomplete or was changed, and
    `RestoreRefused` for one of another domain, or in a newer form.
    """
    manifest = await checked_manifest(directory, subjects, progress or (lambda *_: None))
    return manifest.summary(subjects.log_stream)


async def checked_manifest(directory: Path, subjects: Subjects, report: Progress) -> Manifest:
    """The manifest of a backup; raises as `check_backup` does."""
    manifest = Manifest.read(directory)
    check_domain(directory, manifest, subjects)
    names = [part.name for part in manifest.streams]
    if manifest.ended is None:
        raise BackupDamaged(
            f"{directory} is an interrupted backup: complete it with `backup {directory} "
            "--continue`"
        )
    if names != list(all_streams(subjects)):
        raise BackupDamaged(f"{directory} does not have the streams of {subjects.domain}: {names}")
    await check_files(directory, manifest, report)
    return manifest


def check_domain(directory: Path, manifest: Manifest, subjects: Subjects) -> None:
    """Raise `RestoreRefused` for a backup of another domain."""
    if manifest.domain != subjects.domain:
        raise RestoreRefused(
            f"{directory} is of domain {manifest.domain}, and this is {subjects.domain}"
        )


async def check_files(directory: Path, manifest: Manifest, report: Progress) -> None:
    """Raise `BackupDamaged` unless all files that the manifest has are there and unchanged."""
    for part in manifest.streams:
        await check_file(directory / snapshot_file(part.name), part.file, report)
    if manifest.read_model is not None:
        await check_file(directory / READ_MODEL, manifest.read_model, report)
