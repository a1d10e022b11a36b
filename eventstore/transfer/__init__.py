"""Transfer: a whole log to a file, from a file to a new log, and from file to file changed."""

from eventstore.transfer.copying import Copied, CopiedEvent, copy
from eventstore.transfer.exporting import Exported, export_log, export_to
from eventstore.transfer.importing import Imported, import_log
from eventstore.transfer.reading import check_file

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
