"""Values of settings: secrets and addresses, whose `repr` masks what must not be shown."""

from __future__ import annotations

import re
from pathlib import Path

_USER_INFO = re.compile(r"((?:^|,)\s*(?:[A-Za-z]+://)?)[^,]*@")
_DATABASE_USER_INFO = re.compile(r"(://)[^/?]*@")
_DATABASE_PASSWORD = re.compile(r"([?&][^=&]*passw[^=&]*=)[^&]*", re.IGNORECASE)


def redacted_url(url: str) -> str:
    """The URL, or several separated by commas, with any user, password or token masked."""
    return _USER_INFO.sub(r"\1***@", url)


def redacted_database(location: str) -> str:
    """The path or URL of a database, with any user and password masked."""
    return _DATABASE_PASSWORD.sub(r"\1***", _DATABASE_USER_INFO.sub(r"\1***@", location))


class Secret(str):
    """A string whose `repr` masks it, also within the `repr` of its container."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


class Address(str):
    """A server's URL whose `repr` masks any credentials."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(redacted_url(self))


class LocalAddress(Address):
    """The URL of an embedded server, with the file of its master keys.

    The settings use that file unless another master key is given.
    """

    master_key_file: Path

    @classmethod
    def of(cls, url: str, master_key_file: Path) -> LocalAddress:
        """A URL, and the file in the server's data directory."""
        address = cls(url)
        address.master_key_file = master_key_file
        return address
