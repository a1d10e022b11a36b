"""What a run leaves for the judge: what clients were told, and what is stored.

Times are nanoseconds of CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct


class Call(Struct):
    """One attempt to have a command carried out: its outcome, or why none is known."""

    command_id: str
    action: str
    account: str
    data: dict[str, Any]
    asked: int
    answered: int | None = None
    outcome: dict[str, Any] | None = None
    error: str = ""
    is_reuse: bool = False
    """Whether the id is another command's, on purpose."""


class Question(Struct):
    """A query of an account that was answered: with its row, or None if there was no row."""

    account: str
    wanted: int
    asked: int
    answered: int
    position: int
    row: dict[str, int] | None = None


class Fault(Struct):
    """A fault that was injected, from its beginning until nothing was broken any more."""

    kind: str
    detail: str
    began: int
    ended: int


class Message(Struct):
    """A message of a stream."""

    sequence: int
    subject: str
    headers: dict[str, str]
    payload: bytes


class History(Struct):
    """Everything that the judge looks at.

    `outcomes` are those that the service stored, by command id; `rows` those of its tables;
    `skipped` says why faults could not be injected, and `unsettled` what was still to be done when
    the run ended.
    """

    domain: str
    calls: list[Call] = []
    questions: list[Question] = []
    faults: list[Fault] = []
    skipped: list[str] = []
    log: list[Message] = []
    published: list[Message] = []
    parked: list[Message] = []
    outcomes: dict[str, dict[str, Any]] = {}
    rows: dict[str, list[tuple[Any, ...]]] = {}
    unsettled: list[str] = []

    def save(self, path: Path) -> None:
        """Write it to a file, to be judged again."""
        path.write_bytes(msgspec.json.encode(self))

    @classmethod
    def load(cls, path: Path) -> History:
        """Read what `save` wrote."""
        return msgspec.json.decode(path.read_bytes(), type=cls)


Entry = Call | Question
"""What a client writes down."""


class _Line(Struct):
    call: Call | None = None
    question: Question | None = None


def line_of(entry: Entry) -> bytes:
    """An entry as a line of a client's file."""
    is_call = isinstance(entry, Call)
    line = _Line(call=entry) if is_call else _Line(question=entry)  # type: ignore[arg-type]
    return msgspec.json.encode(line) + b"\n"


def entries(path: Path) -> list[Entry]:
    """The entries in a client's file."""
    lines = (msgspec.json.decode(line, type=_Line) for line in path.read_bytes().splitlines())
    return [entry for line in lines if (entry := line.call or line.question) is not None]
