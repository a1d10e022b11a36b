"""Transfer: export a whole log to a file, import one to an empty log, copy one with changes."""

from eventstore.transfer.copier import copy
from eventstore.transfer.exporter import ExportSummary, export_log, export_to
from eventstore.transfer.file_reader import check_file
from eventstore.transfer.importer import ImportSummary, import_log
from eventstore.transfer.transformation import CopiedEvent, CopySummary

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
