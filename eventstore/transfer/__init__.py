"""Transfer: a whole log to a file, from a file to a new log, and from file to file changed."""

from eventstore.transfer.copier import Copied, CopiedEvent, copy
from eventstore.transfer.exporter import Exported, export_log, export_to
from eventstore.transfer.file_reader import check_file
from eventstore.transfer.importer import Imported, import_log

__all__ = [
    "Copied",
    "CopiedEvent",
    "Exported",
    "Imported",
    "check_file",
    "copy",
    "export_log",
    "export_to",
    "import_log",
]
