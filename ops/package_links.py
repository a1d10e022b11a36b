"""A hook of hatchling: the links of the package lead to the repository that it is built from.

What is built in a clone whose `origin` is on a web server of GitHub's or GitLab's kind has
`[project.urls]`, and a README whose links to files are absolute, as an index of packages cannot
follow others. Elsewhere the project has no address, and the package names none.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_USER, _HOST, _PATH = r"(?:[^@/]*@)?", r"([\w-]+(?:\.[\w-]+)+", r"([\w.~-][\w./~-]*?)(?:\.git)?/?"
_REMOTES = (
    rf"https://{_USER}{_HOST}(?::\d+)?)/{_PATH}",
    rf"ssh://{_USER}{_HOST})(?::\d+)?/{_PATH}",
    rf"{_USER}{_HOST}):{_PATH}",
)
_RELATIVE = re.compile(r"(?<=\]\()(?![a-z]+:|#)")


def web_address(remote: str) -> str | None:
    """The address of a repository for browsers, without a password; None for a folder."""
    found = next(filter(None, (re.fullmatch(each, remote) for each in _REMOTES)), None)
    return "https://{}/{}".format(*found.groups()) if found else None


def links(address: str) -> dict[str, str]:
    """The package's links, by labels that indexes know."""
    return {
        "Source": address,
        "Documentation": f"{address}/tree/HEAD/docs",
        "Issues": f"{address}/issues",
        "Changelog": f"{address}/blob/HEAD/CHANGELOG.md",
    }


def with_absolute_links(text: str, address: str) -> str:
    """A page in Markdown, whose links to files of the repository are absolute."""
    return _RELATIVE.sub(f"{address}/blob/HEAD/", text)


class PackageLinks(MetadataHookInterface):
    """Sets what `pyproject.toml` calls dynamic."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the links and the README."""
        readme = Path(self.root, "README.md").read_text(encoding="utf-8")
        address = web_address(self._origin())
        if address:
            metadata["urls"] = links(address)
            readme = with_absolute_links(readme, address)
        metadata["readme"] = {"content-type": "text/markdown", "text": readme}

    def _origin(self) -> str:
        git = shutil.which("git")
        if git is None or not Path(self.root, ".git").exists():
            return ""
        command = [git, "-C", self.root, "remote", "get-url", "origin"]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()  # noqa: S603
