"""Output is safe for every terminal, pipe and encoding."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from eventstore.cli import app
from eventstore.cli.output.terminal import Terminal, program, say
from eventstore.concurrency.event_loop import run
from eventstore.messages.text import printable


@given(st.text())
def test_no_control_character_gets_through(text: str) -> None:
    shown = printable(text)

    assert len(shown.splitlines()) <= 1
    assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in shown)


@given(st.text(st.characters(exclude_categories=("Cc", "Cf", "Cn", "Cs", "Mn", "Zl", "Zp"))))
def test_other_text_is_unchanged(text: str) -> None:
    assert printable(text) == text


def test_characters_that_an_encoding_lacks_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    app.never_fail_to_encode()
    Terminal().print("id 4c84f6b6…")
    sys.stdout.flush()

    assert written.getvalue() == b"id 4c84f6b6\\u2026\n"


def test_the_program_is_named_as_it_was_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "bin" / "eventstore"
    script.parent.mkdir()
    script.touch(mode=0o700)
    monkeypatch.chdir(tmp_path)

    monkeypatch.setenv("PATH", str(script.parent))
    monkeypatch.setattr(sys, "argv", [str(script)])
    assert program() == "eventstore"
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sys, "argv", ["bin/eventstore"])
    assert program() == "bin/eventstore"
    monkeypatch.setattr(sys, "argv", [str(Path(app.__file__).parents[1] / "__main__.py")])
    assert program() == "python -m eventstore"


def test_without_uvloop_it_runs_on_the_standard_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)

    async def loop() -> type:
        return type(asyncio.get_running_loop())

    assert run(loop()).__module__.startswith("asyncio.")


def test_control_sequences_are_escaped_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    Terminal().print("a\x9b31m\u202eb", Text("c\x1b[2J\u200b", style="bold"), Text("ä\n…"))
    assert capsys.readouterr().out == "a\\x9b31m\\u202eb c\\x1b[2J\\u200b ä\n…\n"


def test_json_on_a_terminal_is_the_same_json(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"a\x9b": "\u202e\U000e0041"}
    say(msgspec.json.encode(value).decode())
    out = capsys.readouterr().out
    assert out == '{"a\\u009b":"\\u202e\\udb40\\udc41"}\n'
    assert json.loads(out) == value
