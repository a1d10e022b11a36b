"""Flake references: written from the locked attributes of an input, and read as to what they name.

References are written as Nix itself writes them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from urllib.parse import quote, unquote

__all__ = ["Attributes", "flake_names", "flake_reference", "is_reference"]

Attributes = dict[str, str | int | bool]
"""What a lock file says of an input: its type, where it is, and what pins it."""

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:.")
_SAFE_IN_PATH = ":@/"
_SAFE_IN_QUERY = ":@/?"


def flake_reference(locked: Attributes) -> str:
    """The url of a locked input, such as `github:NixOS/nixpkgs/<rev>`.

    Where a revision pins the input, it says all. A tarball, a file and a path have none, so their
    `narHash` is part of the url, for without it they would not be pinned. Raises `ValueError` for
    an unknown type, or an attribute that is missing or malformed.
    """
    kind = _required(locked, "type")
    if kind not in _KINDS:
        raise ValueError(f"type {kind!r} is not known")
    base, parameters = _KINDS[kind]
    url, _, query = base(locked).partition("?")
    values = _parse_query(query)
    for name in parameters:
        value = _parameter(locked, name)
        if value:
            values[name] = value
    listed = "&".join(f"{_in_query(name)}={_in_query(values[name])}" for name in sorted(values))
    return f"{url}?{listed}" if listed else url


def flake_names(flake_id: str, path: str) -> frozenset[str]:
    """What a flake may be referred to as: its id or its path, as they are or with their scheme.

    That is `mine`, `flake:mine`, `./my flake` and `path:./my%20flake`.
    """
    full = flake_reference({"type": "path", "path": path}) if path else path
    names = (flake_id, flake_reference({"type": "indirect", "id": flake_id}), path, full)
    return frozenset(_without_slash(name) for name in names if name)


def is_reference(reference: str, names: Collection[str]) -> bool:
    """Whether a flake reference, perhaps with an attribute (`./mine#hello`), is one of `names`.

    One with parameters (`./mine?rev=…`, `./mine?dir=…`) is pinned to a revision, or means a flake
    in another directory: it is none of a flake that is not known by that very path.
    """
    return _without_slash(reference.partition("#")[0]) in names


def _without_slash(name: str) -> str:
    return name.rstrip("/") or name


def _archive(locked: Attributes) -> str:
    # Nix never writes both: the revision is the more exact of the two.
    pin = _text(locked, "rev") or _text(locked, "ref")
    return _path(
        _required(locked, "type"), _required(locked, "owner"), _required(locked, "repo"), pin
    )


def _indirect(locked: Attributes) -> str:
    return _path("flake", _required(locked, "id"), _text(locked, "ref"), _text(locked, "rev"))


def _repository(locked: Attributes) -> str:
    kind, url = _required(locked, "type"), _url(locked)
    return url if url.startswith(f"{kind}:") else f"{kind}+{url}"


def _url(locked: Attributes) -> str:
    url = _required(locked, "url")
    if not _SCHEME.match(url):
        raise ValueError(f"attribute 'url' is {url!r}, which is not a url")
    return url


def _local(locked: Attributes) -> str:
    return _path("path", _required(locked, "path"))


_KINDS: dict[str, tuple[Callable[[Attributes], str], tuple[str, ...]]] = {
    "file": (_url, ("dir", "narHash")),
    "git": (
        _repository,
        ("dir", "exportIgnore", "lfs", "ref", "rev", "shallow", "submodules"),
    ),
    "github": (_archive, ("dir", "host")),
    "gitlab": (_archive, ("dir", "host")),
    "hg": (_repository, ("dir", "ref", "rev")),
    "indirect": (_indirect, ("dir",)),
    "path": (_local, ("dir", "narHash")),
    "sourcehut": (_archive, ("dir", "host")),
    "tarball": (_url, ("dir", "narHash")),
}


def _path(scheme: str, *parts: str) -> str:
    return f"{scheme}:{quote('/'.join(filter(None, parts)), safe=_SAFE_IN_PATH)}"


def _parse_query(query: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in query.split("&"))
    return {unquote(name): unquote(value) for name, equals, value in pairs if equals}


def _in_query(text: str) -> str:
    return quote(text, safe=_SAFE_IN_QUERY)


def _parameter(locked: Attributes, name: str) -> str:
    value = locked.get(name)
    if isinstance(value, bool):
        return "1" if value else ""
    return _text(locked, name)


def _required(locked: Attributes, name: str) -> str:
    value = _text(locked, name)
    if not value:
        raise ValueError(f"attribute {name!r} is missing")
    return value


def _text(locked: Attributes, name: str) -> str:
    value = locked.get(name, "")
    if isinstance(value, str):
        return value
    raise ValueError(f"attribute {name!r} is {value!r}, not a text")
