"""Transfer: exports a log to a file, imports a file into an empty log, transforms files."""

from eventstore.transfer.copier import CopiedEvent, CopySummary, copy
from eventstore.transfer.exporter import ExportSummary, export_log, export_to
from eventstore.transfer.file_reader import check_file
from eventstore.transfer.importer import ImportSummary, import_log

__all__ = [
    "CopiedEvent",
    "CopySummary",
    "ExportSummary",
    "ImportSummary",
    "check_file",
    "copy",
    "export_log",
    "export_to",
    "import_log",
]
