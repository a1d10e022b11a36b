"""Backup: the streams, buckets and read models of a domain in a directory, and back from there.

The only room that has a server send or restore a whole stream.
"""

from eventstore.backup.backup import back_up
from eventstore.backup.check import check_backup
from eventstore.backup.manifest import BackupSummary
from eventstore.backup.restore import RestoreSummary, restore

__all__ = ["BackupSummary", "RestoreSummary", "back_up", "check_backup", "restore"]
