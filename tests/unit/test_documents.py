"""The documents: names and links are valid, and code type-checks."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from eventstore.messages.headers import (
    AUTHENTICATED_AS,
    COMMAND_DIGEST,
    DUE,
    EXPECTED_VERSION,
    ID_DERIVED,
    POSITION,
    PROCESS,
    REPLY_TO,
    Header,
)
from eventstore.messages.opaque_headers import METADATA, OPAQUE
from eventstore.messages.queries import WAIT_POSITION
from eventstore.scaffold import project_files
from projections import app as shipped
from tests import settings_table
from tests.unit.cli.test_help import ALL, helped
from tests.unit.test_architecture import ROOMS

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]
DOCUMENTS += [*sorted((ROOT / "ops").rglob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
DOCUMENTS = [each for each in DOCUMENTS if "generated" not in each.parts]  # as `make docs` leaves
PUBLIC_NAMES = ROOT / "tests" / "unit" / "public_names.txt"
RUN = {ROOT / "docs" / "quickstart.md", *(ROOT / "docs" / "tutorial").glob("*.md")}
"""Documents whose code is run by a test of their own."""

LINK = re.compile(r"\]\((?!https?:)([^)#]+)")
COMMAND = re.compile(
    r"^\$ (?:\w+=\S+ )*eventstore (?:--app \S+ )?((?:[^#\n\\]|\\\n)+)", re.MULTILINE
)
PYTHON = re.compile(r"```python\n(.*?)```", re.DOTALL)
ROW = re.compile(r"^\| (`[^|]*) \|", re.MULTILINE)


def named(document: str, heading: str) -> list[str]:
    """The names in code in the first column of the table below a heading."""
    _, _, table = (ROOT / document).read_text().partition(heading)
    rows = ROW.findall(table.partition("\n## ")[0])
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_refer_to_files(document: Path) -> None:
    links = LINK.findall(document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []


def test_the_reference_has_a_page_for_every_public_name() -> None:
    source = ast.parse((ROOT / "docs" / "_extensions" / "reference.py").read_text())
    assigned = {
        ast.unparse(node.targets[0]): ast.literal_eval(node.value)
        for node in source.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in {"PACKAGES", "MODULES"}
    }
    shown = {*assigned["PACKAGES"], *(each for own in assigned["MODULES"].values() for each in own)}
    public = {line.split()[0] for line in PUBLIC_NAMES.read_text().splitlines()}
    own_pages = {"eventstore", "eventstore.cli", "eventstore.errors", "eventstore.scaffold"}
    assert public - own_pages - shown == {"eventstore.nix", "eventstore.nix.stale_builds"}


def test_the_guide_for_contributors_names_every_room() -> None:
    rooms = [room.removeprefix("eventstore.") for room in ROOMS if room.startswith("eventstore.")]
    rooms.remove("__main__")
    assert named("CONTRIBUTING.md", "## The rooms") == rooms  # in the order of their imports


def test_the_page_of_commands_names_every_header() -> None:
    headers = {value for name, value in vars(Header).items() if name.isupper()}
    headers |= {AUTHENTICATED_AS, COMMAND_DIGEST, DUE, EXPECTED_VERSION, ID_DERIVED, POSITION}
    headers |= {PROCESS, REPLY_TO}
    headers |= {OPAQUE, METADATA}
    assert set(named("docs/commands.md", "## Headers")) == headers | {WAIT_POSITION}


def test_the_table_of_settings_is_that_of_the_code() -> None:
    assert settings_table.FILE.read_text() == settings_table.rendered(), (
        "run: python -m tests.settings_table"
    )


def test_every_command_in_the_documents_exists_with_its_options() -> None:
    commands = [line for each in DOCUMENTS for line in COMMAND.findall(each.read_text())]
    assert len(commands) > 20
    known_aggregates = {query.__aggregate__ for query in shipped.query_types}
    for line in commands:
        words = line.replace("\\\n", " ").split()
        subcommands = [each.split() for each in ALL if words[: len(each.split())] == each.split()]
        assert subcommands, line
        named = max(subcommands, key=len)
        if words[0] == "query" and len(words) > 2:  # queries of others are not known here
            named = words[:3] if words[1] in known_aggregates else ["query", "flake", "get"]
        known = helped(*named)
        assert [each for each in words if each.startswith("--") and each not in known] == [], line


AROUND_FRAGMENTS = """
import asyncio
from eventstore import *
from eventstore.messages import Codec

class Mailed(Event, subject="mail.mailed"):
    to: str

class OrderPlaced(Event, subject="order.placed"):
    article: str
    quantity: int

class OrderPaid(Event, subject="order.paid"):
    pass

class OrderConfirmed(Event, subject="order.confirmed"):
    pass

class OrderCancelled(Event, subject="order.cancelled"):
    pass

class StockReserved(Event, subject="stock.reserved"):
    order: str

class ConfirmOrder(Command, subject="order.confirm"):
    pass

class ExpireOrder(Command, subject="order.expire"):
    pass

class CancelOrder(Command, subject="order.cancel"):
    reason: str

class ReserveStock(Command, subject="stock.reserve"):
    order: str
    quantity: int

order: Decider[None]
stock: Decider[None]
fulfilment: Process[None]
client: Client
codec: Codec
store: EventStore
queries: QueryClient
outcome: Outcome
"""
"""The context that fragments in documents assume."""


@pytest.mark.timeout(240)  # if mypy has no cache yet
def test_code_in_documents_examples_and_a_new_project_type_checks(tmp_path: Path) -> None:
    texts = [each.read_text() for each in DOCUMENTS if each not in RUN]
    bank, *fragments = [code for text in texts for code in PYTHON.findall(text)]
    assert bank == (ROOT / "examples" / "bank.py").read_text()
    for number, code in enumerate(fragments):
        body = textwrap.indent(code, "    ")
        text = f"{AROUND_FRAGMENTS}\nasync def fragment() -> None:\n{body}"
        (tmp_path / f"fragment_{number}.py").write_text(text)
    project = tmp_path / "project" / "tea_house"
    project.mkdir(parents=True)
    for path, text in project_files("tea-house").items():
        if path.parent.name == project.name:
            (project / path.name).write_text(text)

    command = [sys.executable, "-m", "mypy", "--no-error-summary"]  # with the cache of `make lint`
    examples = ROOT / "examples"
    files = [*sorted(tmp_path.glob("*.py")), *sorted(examples.glob("*.py"))]
    files += [*sorted((examples / "shop" / "shop").glob("*.py")), *sorted(project.glob("*.py"))]
    assert project / "app.py" in files
    result = subprocess.run(
        [*command, *map(str, files)], cwd=ROOT, capture_output=True, text=True, timeout=230
    )
    assert result.stderr == ""
    assert result.stdout.splitlines() == []
