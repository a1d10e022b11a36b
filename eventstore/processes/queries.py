"""The queries about processes, for users who may not read the log, and their answers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta, Struct

from eventstore.client.client import Client
from eventstore.client.responder import Answer, Reply, Request
from eventstore.errors import QueryNotFound, UnknownProcess
from eventstore.messages.headers import POSITION
from eventstore.messages.queries import Query, read_query
from eventstore.processes.process import Process
from eventstore.processes.status import Processes, ProcessStatus, ProcessStep
from eventstore.store.store import EventStore

_Name = Annotated[str, Meta(max_length=128)]


class ProcessList(Struct, frozen=True):
    """Processes, and the names of all kinds that the application has."""

    items: list[ProcessStatus]
    kinds: list[str]


class ListProcesses(Query[ProcessList], subject="process.list"):
    """Get the processes that have recorded something last, the latest first.

    At most `limit` of each kind, or of the one that `process` names, whose last record is `before`
    a position of the log; or those that have `failed`, in the order of the events that they have
    failed at.
    """

    __label__: ClassVar[str] = "ListProcesses"

    process: _Name | None = None
    failed: bool = False
    before: Annotated[int, Meta(ge=1)] | None = None
    limit: Annotated[int, Meta(ge=1, le=200)] = 50


class ProcessView(Struct, frozen=True, kw_only=True):
    """One process, and the last `steps` of what it has recorded; `earlier` are the others."""

    status: ProcessStatus
    steps: list[ProcessStep]
    earlier: int


class GetProcess(Query[ProcessView], subject="process.get"):
    """Get what one process has done: its last `limit` steps."""

    __label__: ClassVar[str] = "GetProcess"

    process: _Name
    key: _Name
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 100


def process_answers(
    client: Client, store: EventStore, kinds: Iterable[Process[Any]]
) -> dict[str, Answer]:
    """The endpoints of `ListProcesses` and `GetProcess`, for a `Responder`.

    The position in `X-Position` is that of the latest record.
    """
    names = [each.name for each in kinds]
    processes = Processes(client, store, kinds)

    async def answer_list(request: Request) -> Reply:
        query = read_query(ListProcesses, request.payload)
        try:
            listed = processes.list(
                query.process, failed=query.failed, before=query.before, limit=query.limit
            )
            items = [each async for each in listed]
        except UnknownProcess as error:
            raise QueryNotFound(str(error)) from error
        latest = max((each.position for each in items), default=0)
        return _reply(ProcessList(items, names), latest)

    async def answer_get(request: Request) -> Reply:
        query = read_query(GetProcess, request.payload)
        try:
            status = await processes.get(query.process, query.key)
            steps = await processes.steps(query.process, query.key)
        except UnknownProcess as error:
            raise QueryNotFound(str(error)) from error
        shown = list(steps[-query.limit :])
        view = ProcessView(status=status, steps=shown, earlier=len(steps) - len(shown))
        return _reply(view, status.position)

    subjects = store.codec.subjects
    return {
        subjects.query(ListProcesses.__aggregate__, ListProcesses.__action__): answer_list,
        subjects.query(GetProcess.__aggregate__, GetProcess.__action__): answer_get,
    }


def _reply(answer: Struct, position: int) -> Reply:
    return Reply(msgspec.json.encode(answer), {POSITION: str(position)})
