"""`eventstore shell`: Python with the application open."""

from __future__ import annotations

import ast
import asyncio
import code
import inspect
import signal
import sys
from asyncio import CancelledError
from types import CodeType, FunctionType
from typing import Any

from eventstore.application import Application
from eventstore.application.client import ApplicationClient
from eventstore.cli.options import ClientSession

_BANNER = """{name} {version} on {url}. `await` works at the prompt.
  client     await client.execute(Command(...), "id"), client.ask(Query(...)), client.load(kind, id)
  store      async for event in store.read(kind, id): ...
  app        the application
and every command, event and query by its name. Ctrl-D ends it."""


async def shell(session: ClientSession) -> None:
    """Open a Python prompt with the application connected.

    `await` and `async for` work at the prompt. At it are client, store, app, and all commands,
    events and queries by their names. It reads and sends as any client does: a service has to run
    for commands to be carried out. Ctrl-C stops what runs; Ctrl-D ends it, with status 0.
    """
    async with session.app.client(session.settings) as client:
        console = _Console(_names(session.app, client), asyncio.get_running_loop())
        banner = _BANNER.format(
            name=session.app.name,
            version=session.app.identity(session.settings).version,
            url=client.client.url,
        )
        before = signal.signal(signal.SIGINT, console.interrupt)
        try:
            await asyncio.to_thread(console.interact, banner, "")
        finally:
            signal.signal(signal.SIGINT, before)


def _names(app: Application, client: ApplicationClient) -> dict[str, Any]:
    codec = app.domain.codec
    types = [*codec.command_types, *codec.event_types, *app.query_types]
    return {
        **{each.__name__: each for each in types},
        "app": app,
        "client": client,
        "store": client.store,
    }


class _Console(code.InteractiveConsole):
    """A console in a thread, whose code runs in an event loop of another."""

    def __init__(self, names: dict[str, Any], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(names, filename="<input>")
        self.compile.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        self._names = names
        self._loop = loop
        self._task: asyncio.Task[Any] | None = None  # which runs what was typed

    def runcode(self, code: CodeType) -> None:
        """Run what was typed in the loop, and print what it raises."""
        try:
            asyncio.run_coroutine_threadsafe(self._run(code), self._loop).result()
        except (KeyboardInterrupt, CancelledError):
            self.write("KeyboardInterrupt\n")
        except SystemExit:
            raise
        except BaseException:
            self.showtraceback()

    def interrupt(self, *_signal: object) -> None:
        """Stop what runs: for Ctrl-C, which reaches the thread of the loop."""
        if self._task is None:
            self.write("\nCtrl-D ends it\n")
        elif asyncio.current_task(self._loop) is self._task:
            raise KeyboardInterrupt
        else:
            self._loop.call_soon_threadsafe(self._task.cancel)

    async def _run(self, code: CodeType) -> None:
        self._task = asyncio.current_task()
        try:
            result = FunctionType(code, self._names)()
            if inspect.iscoroutine(result):
                await result
        except KeyboardInterrupt as error:  # it would end the loop
            raise CancelledError from error
        finally:
            self._task = None

    def raw_input(self, prompt: str = "") -> str:
        """A line; without a prompt where nobody sees one."""
        return super().raw_input(prompt if sys.stdin.isatty() else "")
