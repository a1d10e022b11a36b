"""Errors of messages: what may not be sent, and what cannot be decoded."""

from __future__ import annotations

from pathlib import Path

from eventstore.errors.base import EventStoreError


class InvalidMessage(EventStoreError, code="invalid_message"):
    """A message that may not be sent, or that cannot be decoded."""


class InvalidSubject(InvalidMessage, code="invalid_subject"):
    """A subject, or a token of one, breaks the rules of naming."""


class InvalidId(InvalidMessage, code="invalid_id"):
    """An aggregate id or a message id breaks the rules of naming."""


class InvalidHeader(InvalidMessage, code="invalid_header"):
    """A header is missing, malformed or contradicts another; `header` names it."""

    def __init__(self, header: str, problem: str) -> None:
        super().__init__(f"header {header} {problem}")
        self.header = header


class UnknownType(InvalidMessage, code="unknown_type"):
    """No such command, event or aggregate is registered."""


class InvalidPayload(InvalidMessage, code="invalid_payload"):
    """The payload is not JSON, or does not fit its type; the text names the field."""


class InvalidLockFile(InvalidMessage, code="invalid_lock_file"):
    """A file is not a lock file that can be imported; `path` names it, `problem` says why."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"lock file {str(path)!r}: {problem}")
        self.path = path
        self.problem = problem


class UnsupportedSchema(InvalidMessage, code="unsupported_schema"):
    """The payload has a schema version that the running code cannot read."""


class CommandIdReused(InvalidMessage, code="command_id_reused"):
    """The command's id was used before, for a different command; it is not executed.

    A command with another type, aggregate or payload is a different one, and needs an id of its
    own. Ids of its aggregate's facts, and of their causes, are used, too (`by_fact`).
    """

    def __init__(self, command_id: str, *, by_fact: bool = False) -> None:
        super().__init__(
            f"command id {command_id} was used before, for another command or a fact; this one "
            "was not carried out: send it with an id of its own"
        )
        self.command_id = command_id
        self.by_fact = by_fact


class KeyMissing(InvalidMessage, code="key_missing"):
    """A key of personal data is missing in its bucket, though its subject was not forgotten.

    Restore the bucket from a backup. Subjects forgotten since that backup must be forgotten again.
    """
