"""Files from templates that ship with the library."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import PurePosixPath

_TEMPLATE = ".tmpl"


def filled_templates(
    package: str, folder: str, values: Mapping[str, str]
) -> dict[PurePosixPath, str]:
    """The files of a folder in a package, by their paths, with `{{name}}` replaced by its value.

    That applies to the paths, too. Only files that end in `.tmpl` are taken, without that.
    """
    found = _templates(files(package) / folder, PurePosixPath())
    return {
        PurePosixPath(_filled(str(path), values)): _filled(text, values)
        for path, text in found.items()
    }


def _templates(folder: Traversable, path: PurePosixPath) -> dict[PurePosixPath, str]:
    found: dict[PurePosixPath, str] = {}
    for each in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if each.is_dir():
            found |= _templates(each, path / each.name)
        elif each.name.endswith(_TEMPLATE):
            found[path / each.name.removesuffix(_TEMPLATE)] = each.read_text(encoding="utf-8")
    return found


def _filled(text: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(f"{{{{{name}}}}}", value)
    return text
