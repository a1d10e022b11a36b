"""The version of a nats-server, and which ones are too old to be trusted."""

from __future__ import annotations

import re

from eventstore.errors import ServerTooOld

__all__ = ["INSTALL", "check_server_version"]

INSTALL = "pip install 'jetstream-eventstore[embedded]'"
"""How to get a nats-server that is new enough."""

_VERSION = re.compile(r"v?(\d+)\.(\d+)\.(\d+)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")
_TRUSTED_2_12 = (2, 12, 14)
_TRUSTED = (2, 14, 4)  # and everything after it
_RELEASED = 1  # after its own release candidates


def check_server_version(version: str, where: str) -> None:
    """Raise `ServerTooOld` unless the store can trust this version; `where` is for the text.

    Older ones let conflicting atomic batches pass or refuse sound ones.
    """
    match = _VERSION.fullmatch(version.strip())
    if match is None:
        raise ServerTooOld(f"{where} says its version is {version!r}, which cannot be understood")
    major, minor, patch = int(match[1]), int(match[2]), int(match[3])
    wanted = _TRUSTED_2_12 if (major, minor) == _TRUSTED_2_12[:2] else _TRUSTED
    if (major, minor, patch, _RELEASED if match[4] is None else 0) < (*wanted, _RELEASED):
        raise ServerTooOld(
            f"{where} is nats-server {version.removeprefix('v')}; the store needs 2.12.14 or a "
            f"later 2.12, or 2.14.4 or later. Upgrade it, or let the store run its own: {INSTALL}"
        )
