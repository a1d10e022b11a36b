"""Flake references: formatted from the locked attributes of an input, and what they name.

References are formatted as Nix itself does.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import quote, unquote, urlencode

import msgspec

from eventstore.messages import UNDECODABLE

Attributes = dict[str, str | int | bool]
"""The attributes of an input in a lock file: its type, its location, and what pins it."""

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:.")
_ENCODED_SLASH = re.compile("%2f", re.IGNORECASE)
_INDIRECT = re.compile(r"(?:flake:)?([A-Za-z0-9_-]{1,128})(?:#.*)?", re.DOTALL)
_SAFE_IN_SEGMENT = ":@"
_SAFE_IN_PATH = ":@/"
_SAFE_IN_QUERY = ":@/?"


def flake_reference(locked: Attributes) -> str:
    """The url of a locked input, such as `github:NixOS/nixpkgs/<rev>`.

    A revision pins the input. A tarball, a file and a path have none, so their `narHash` is part of
    the url: without it they would not be pinned. Raises `ValueError` for
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
    if kind == "git":
        values |= _key_parameters(_public_keys(locked))
    query = urlencode(sorted(values.items()), quote_via=quote, safe=_SAFE_IN_QUERY)
    return f"{url}?{query}" if query else url


def flake_named_by(reference: str) -> str | None:
    """The id of the flake that a reference names, such as `mine`, `mine#hello` or `flake:mine`.

    None for one with a location or a path, which does not have the id in it, and for one that is
    pinned (`mine?rev=…`), because what changes in the flake does not concern it.
    """
    found = _INDIRECT.fullmatch(reference)
    return None if found is None else found[1]


def _archive(locked: Attributes) -> str:
    # Nix never writes both; the revision is the more specific one.
    pin = _text(locked, "rev") or _text(locked, "ref")
    base = f"{_required(locked, 'type')}:{_segment(locked, 'owner')}/{_segment(locked, 'repo')}"
    return f"{base}/{_in_path(pin)}" if pin else base


def _segment(locked: Attributes, name: str) -> str:
    """An attribute as one segment of a path, whose slashes (GitLab's subgroups) are encoded.

    Older releases of Nix left them encoded in the lock file, newer ones decode them there.
    """
    text = _ENCODED_SLASH.sub("/", _required(locked, name))
    return quote(text, safe=_SAFE_IN_SEGMENT)


def _indirect(locked: Attributes) -> str:
    return _path("flake", _required(locked, "id"), _text(locked, "ref"), _text(locked, "rev"))


def _repository(locked: Attributes) -> str:
    kind, url = _required(locked, "type"), _url(locked)
    return url if url.startswith(f"{kind}:") else f"{kind}+{url}"


class _PublicKey(msgspec.Struct):
    # In the order in which Nix writes the fields.
    key: str
    type: str = "ssh-ed25519"


def _public_keys(locked: Attributes) -> list[_PublicKey]:
    listed = _text(locked, "publicKeys")
    try:
        keys = msgspec.json.decode(listed, type=list[_PublicKey]) if listed else []
    except UNDECODABLE as error:
        raise ValueError(f"attribute 'publicKeys' is not a list of keys: {error}") from error
    if key := _text(locked, "publicKey"):
        keys.append(_PublicKey(key, _text(locked, "keytype") or "ssh-ed25519"))
    return keys


def _key_parameters(keys: list[_PublicKey]) -> dict[str, str]:
    """Nix writes one key as two parameters, and several as a list in JSON."""
    if len(keys) == 1:
        return {"keytype": keys[0].type, "publicKey": keys[0].key}
    return {"publicKeys": msgspec.json.encode(keys).decode()} if keys else {}


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
        (
            *("allRefs", "dir", "exportIgnore", "lfs", "ref", "rev", "shallow", "submodules"),
            "verifyCommit",
        ),
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
    return f"{scheme}:{_in_path('/'.join(filter(None, parts)))}"


def _in_path(text: str) -> str:
    return quote(text, safe=_SAFE_IN_PATH)


def _parse_query(query: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in query.split("&"))
    return {unquote(name): unquote(value) for name, equals, value in pairs if equals}


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
