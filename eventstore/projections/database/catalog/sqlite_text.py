"""The text of SQLite's statements, for what no pragma tells."""

from __future__ import annotations

import re
from collections.abc import Iterator

_TOKEN = re.compile(
    r"""--[^\n]* | /\*.*?\*/ | '(?:[^']|'')*' | "(?:[^"]|"")*" | `[^`]*` | \[[^\]]*\]
        | [(),] | [^\s'"`\[(),]+""",
    re.DOTALL | re.VERBOSE,
)
_OPTIONS = {"AUTOINCREMENT", "COLLATE", "CONFLICT"}
_CONSTRAINTS = {"CONSTRAINT", "PRIMARY", "UNIQUE", "CHECK", "FOREIGN"}


def options_of(statement: str) -> frozenset[object]:
    """What a table and its columns and constraints are created with, and pragmas do not tell.

    That is collations, what to do on a conflict, and whether keys are never used again; `STRICT`
    and `WITHOUT ROWID` of the table itself.
    """
    *inside, after = _parts(statement)
    found: set[object] = {tuple(word.upper() for word in after)}
    for part in inside:
        options = [
            tuple(word.upper() for word in part[number - 1 : number + 2])
            for number, word in enumerate(part)
            if word.upper() in _OPTIONS
        ]
        if options:
            is_constraint = part[0].upper() in _CONSTRAINTS
            named = " ".join(part) if is_constraint else part[0]
            found.add((normalized(named), *options))
    return frozenset(found)


def quoted(name: str) -> str:
    """A name as it is written in statements, whatever characters it has."""
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


def normalized(sql: str) -> str:
    """A statement without what makes no difference: spaces, and the quotes of names."""
    words = re.sub(r'[\s"`\[\]]+', " ", sql)
    return re.sub(r"\s*([(),])\s*", r"\1", words).strip()


def _parts(statement: str) -> Iterator[list[str]]:
    """The words of each column and constraint, and at last those after them all."""
    depth, words = 0, list[str]()
    for word in _TOKEN.findall(statement):
        depth += (word == "(") - (word == ")")
        if (depth, word) in {(1, "("), (1, ","), (0, ")")}:
            if word != "(":
                yield words
            words = []
        elif not word.startswith(("--", "/*")):
            words.append(word)
    yield words
