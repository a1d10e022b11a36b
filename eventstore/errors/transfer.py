"""Errors of export, import and copy, of backups and of restoring them."""

from __future__ import annotations

from eventstore.errors.base import EventStoreError


class TransferError(EventStoreError, code="transfer"):
    """An export, import, copy or backup failed."""


class DamagedFile(TransferError, code="damaged_file"):
    """An export file is incomplete, or was changed; `line` is the first bad one, from 1."""

    def __init__(self, path: str, line: int, problem: str) -> None:
        super().__init__(f"{path}, line {line}: {problem}")
        self.path = path
        self.line = line


class ImportRefused(TransferError, code="import_refused"):
    """The file may not, or no longer, be imported into this log."""


class BackupDamaged(TransferError, code="backup_damaged"):
    """A backup is incomplete, or was changed."""


class RestoreRefused(TransferError, code="restore_refused"):
    """The backup may not be restored here."""
