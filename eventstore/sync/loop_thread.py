"""An event loop in a thread of its own, in which a resource is open, for calls of other threads."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, Generic, TypeVar

from eventstore.concurrency.event_loop import new_loop
from eventstore.errors import BlockingCallRefused, RequestTimeout

_GRACE_SECONDS = 5.0

T = TypeVar("T")
R = TypeVar("R")


class LoopThread(Generic[T]):
    """Opens a resource in a thread of its own, runs coroutines beside it, and closes it there.

    If the resource fails by itself, all calls are refused, and `close` raises the error.

    All methods may be called from any thread, except from one that runs an event loop. They raise
    `BlockingCallRefused` there, when it is not open, and in a process that was forked from the one
    that opened it: threads are not inherited.
    """

    def __init__(self, resource: AbstractAsyncContextManager[T], name: str) -> None:
        self._resource = resource
        self._name = name
        self._opened: concurrent.futures.Future[T] = concurrent.futures.Future()
        self._ended: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._stopping = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._lock = threading.Lock()
        self._is_open = self._is_closed = False
        self._process: int | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[None] | None = None

    def open(self) -> T:
        """Start the thread, and return the resource when it is open; raises what opening raises."""
        self.check_thread()
        if self._loop is not None:
            raise BlockingCallRefused(f"the {self._name} was opened before: make another one")
        self._process = os.getpid()
        self._loop = loop = new_loop()
        thread = threading.Thread(target=self._run, args=(loop,), name=self._name, daemon=True)
        try:
            thread.start()
            return self._opened.result()
        except KeyboardInterrupt:
            self.soon(self._cancel)
            concurrent.futures.wait([self._ended], _GRACE_SECONDS)
            raise

    def close(self) -> None:
        """Cancel all calls, close the resource and end the thread.

        Does nothing a second time, and in a forked process, which must leave it to the other one.
        """
        if self.is_forked:
            return
        self.check_thread()
        with self._lock:
            is_done = self._is_closed or self._loop is None
            self._is_open, self._is_closed = False, True
        if not is_done:
            self.soon(self._stopping.set)
            self._ended.result()

    def call(self, coroutine: Callable[[], Coroutine[Any, Any, R]], timeout: float | None) -> R:
        """Run a coroutine to the end, and return its result, or raise its error.

        After `timeout` seconds it is cancelled, and `RequestTimeout` raised; so it is by Ctrl-C.
        """
        self.check_thread()
        future = self.submit(coroutine)
        try:
            return future.result(timeout)
        except concurrent.futures.CancelledError:
            raise self.closed() from None
        except BaseException as error:
            if not future.done():  # it is not the coroutine's own
                future.cancel()
                if isinstance(error, TimeoutError):
                    raise RequestTimeout(
                        f"the {self._name} had no result within {timeout:g} s; what was asked for "
                        "may happen all the same"
                    ) from None
            raise

    def submit(
        self, coroutine: Callable[[], Coroutine[Any, Any, R]]
    ) -> concurrent.futures.Future[R]:
        """Run a coroutine in the thread; raises `BlockingCallRefused` if it is not open."""
        with self._lock:
            if not self._is_open or self._loop is None:
                raise self.closed()
            return asyncio.run_coroutine_threadsafe(self._noted(coroutine), self._loop)

    def soon(self, callback: Callable[[], object]) -> None:
        """Call a function in the thread; does nothing if it has ended."""
        with suppress(RuntimeError):  # the loop is closed
            if self._loop is not None:
                self._loop.call_soon_threadsafe(callback)

    def closed(self) -> BlockingCallRefused:
        """The error of a call that cannot be made, or was cancelled, because it is not open."""
        return BlockingCallRefused(f"the {self._name} is not open: use it inside of its `with`")

    @property
    def is_forked(self) -> bool:
        """Whether another process has opened it, and this one was forked from that."""
        return self._process not in (None, os.getpid())

    def check_thread(self) -> None:
        """Raise `BlockingCallRefused` if an event loop runs in this thread, or it is forked."""
        if self.is_forked:
            raise BlockingCallRefused(
                f"the {self._name} was opened before this process was forked: open one in each "
                "process, such as in a hook after the fork"
            )
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        raise BlockingCallRefused(
            f"the {self._name} blocks, and an event loop runs in this thread: use the asynchronous "
            "class here, or call it by asyncio.to_thread"
        )

    async def _noted(self, coroutine: Callable[[], Coroutine[Any, Any, R]]) -> R:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await coroutine()

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(self._serve())
        except BaseException as error:  # of opening or closing the resource
            (self._ended if self._opened.done() else self._opened).set_exception(error)
        finally:
            with self._lock:
                self._is_open = False
            if not self._ended.done():
                self._ended.set_result(None)

    def _cancel(self) -> None:
        """End also while it is opening, or before."""
        self._stopping.set()
        if self._main is not None:
            self._main.cancel()

    async def _serve(self) -> None:
        self._main = asyncio.current_task()
        if self._stopping.is_set():
            return
        async with self._resource as opened:
            self._is_open = True
            self._opened.set_result(opened)
            await self._stopping.wait()
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)
