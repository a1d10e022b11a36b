"""The root of the tree."""

from __future__ import annotations

from typing import ClassVar


class EventStoreError(Exception):
    """The root of the tree.

    `code` is stable and for programs; the text is for people and may change. `retryable` says
    whether the same call may succeed later without any change.
    """

    code: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False

    def __init_subclass__(cls, *, code: str = "", retryable: bool | None = None) -> None:
        """Set both from the class statement; what is left out is inherited."""
        super().__init_subclass__()
        cls.code = code or cls.code
        cls.retryable = cls.retryable if retryable is None else retryable
