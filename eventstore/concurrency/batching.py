"""Coroutines that are run together, so that what they wait for is requested in one batch.

Code that is run so looks like any other. It awaits a `Batchable`, an answer to a request say: in a
task of its own that is done for it alone; in a batch, all members are advanced until each waits,
and then what they wait for is done for all of them at once. Whatever else takes time needs a task:
a member that comes to it leaves the batch, and goes on by itself from there.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Coroutine, Generator, Hashable, Iterable, Sequence
from contextlib import suppress
from contextvars import ContextVar, copy_context
from typing import Any, Generic, Self, TypeVar

from eventstore.concurrency.failures import only_own_cancellation

T = TypeVar("T")


class _Batch:
    """Whether the members of a batch are being advanced now.

    A context has its member's batch, and so have the tasks that were started in it, or that the
    member has left for; but they run while no member does.
    """

    __slots__ = ("is_running",)

    def __init__(self) -> None:
        self.is_running = False


_batch: ContextVar[_Batch | None] = ContextVar("batch", default=None)


def _is_batched() -> bool:
    batch = _batch.get()
    return batch is not None and batch.is_running


class Batchable(Generic[T]):
    """Something to wait for that can be done for several in one batch.

    `kind`, which each sets, is what those have in common that can be done in one batch. Not an
    abstract base class, because each of those is asked for a command's type several times.
    """

    __slots__ = ("kind",)

    kind: Hashable

    def __await__(self) -> Generator[Any, Any, T]:
        """Wait for it: in a batch together with others of its kind, else alone."""
        batch = _batch.get()
        if batch is not None and batch.is_running:
            result: T = yield self
            return result
        return (yield from self.alone().__await__())

    def alone(self) -> Coroutine[Any, Any, T]:
        """Do it by itself."""
        raise NotImplementedError

    async def together(self, batch: Sequence[Self]) -> Sequence[T | Exception]:
        """Do all of a batch, this one among them; the result of each, or what it raises."""
        raise NotImplementedError


class _OwnTask:
    """What a member waits for that leaves its batch."""

    def __await__(self) -> Generator[Any, Any, None]:
        if _is_batched():
            yield self


_OWN_TASK = _OwnTask()


async def own_task() -> None:
    """Leave the batch: what follows needs a task, as `asyncio.timeout` does, or takes long.

    Does nothing in a coroutine that has one.
    """
    await _OWN_TASK


class _Member:
    """A coroutine that is run in a batch; it has a context of its own, as a task has.

    So spans of tracing do not mix.
    """

    __slots__ = ("_context", "_coroutine", "_done")

    def __init__(self, coroutine: Coroutine[Any, Any, None], done: Callable[[], None]) -> None:
        self._coroutine = coroutine
        self._done = done
        self._context = copy_context()

    def advance(self, result: Any) -> Any:
        """Run on with a result, or an error, to what it waits for next; `_ENDED` if it ends."""
        send = self._coroutine.throw if isinstance(result, Exception) else self._coroutine.send
        try:
            return self._context.run(send, result)
        except StopIteration:
            self._done()
            return _ENDED

    def leave(self, tasks: asyncio.TaskGroup, waits_for: Any) -> None:
        """Go on in a task of its own."""
        rest = _rest(self._coroutine, waits_for)
        task = tasks.create_task(rest, context=self._context)
        task.add_done_callback(lambda _: self._done())

    def cancel(self) -> None:
        """End it as a cancelled task ends."""
        with suppress(Exception, asyncio.CancelledError):
            self._context.run(self._coroutine.throw, asyncio.CancelledError())
        self._coroutine.close()
        self._done()


_ENDED = object()


Work = tuple[Coroutine[Any, Any, None], Callable[[], None]]
"""A coroutine to be run in a batch, and what is called once when it has ended."""


async def run_batch(several: Iterable[Work], tasks: asyncio.TaskGroup) -> None:
    """Run coroutines together until each has ended, or has left for one of `tasks`.

    Raises what one of them raises, and cancels the others.
    """
    batch = _Batch()
    outer = _batch.set(batch)  # which the contexts of the members are copies of
    # With the results that they are to go on with.
    running: dict[_Member, Any] = {_Member(*each): None for each in several}
    _batch.reset(outer)
    try:
        while running:
            batch.is_running = True
            waiting = _advance(running, tasks)
            batch.is_running = False
            for each in waiting:
                running |= await _done(each)
    except BaseException:
        batch.is_running = False
        for member in running:
            member.cancel()
        raise


def _advance(
    running: dict[_Member, Any], tasks: asyncio.TaskGroup
) -> list[dict[_Member, Batchable[Any]]]:
    """Advance all, and drop those that have ended or left; what the others wait for, by kind."""
    batches: dict[Hashable, dict[_Member, Batchable[Any]]] = defaultdict(dict)
    with only_own_cancellation():
        for member, result in list(running.items()):
            waits_for = member.advance(result)
            if isinstance(waits_for, Batchable):
                batches[waits_for.kind][member] = waits_for
                continue
            del running[member]
            if waits_for is not _ENDED:
                member.leave(tasks, waits_for)
    return list(batches.values())


async def _done(batch: dict[_Member, Batchable[Any]]) -> dict[_Member, Any]:
    """Do what members wait for, which is of one kind; their results, or errors."""
    several = list(batch.values())
    try:
        results = await several[0].together(several)
    except Exception as error:
        return dict.fromkeys(batch, error)
    return dict(zip(batch, results, strict=True))


async def _rest(coroutine: Coroutine[Any, Any, None], waits_for: Any) -> None:
    with only_own_cancellation():
        await _Rest(coroutine, waits_for)


class _Rest:
    """The rest of a coroutine that has begun, from what it waits for on."""

    def __init__(self, coroutine: Coroutine[Any, Any, None], waits_for: Any) -> None:
        self._coroutine = coroutine
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, None]:
        waits_for, result = self._waits_for, None
        while True:
            send: Any = self._coroutine.send
            if waits_for is not _OWN_TASK:
                try:
                    result = yield waits_for
                except BaseException as error:  # a cancellation, say
                    send, result = self._coroutine.throw, error
            try:
                waits_for = send(result)
            except StopIteration:
                return
