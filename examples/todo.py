"""A to-do list: commands, events, a read model, a query and a subscriber, in one process.

Run it with `python examples/todo.py`; its server keeps its data below `var/todo`.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from msgspec import Struct
from sqlalchemy import Boolean, Column, MetaData, String, Table, Text, insert, select, update

from eventstore import (
    Application,
    Command,
    Decider,
    Event,
    Listed,
    ListQuery,
    RecordedEvent,
    Rejected,
    Subscriber,
)
from eventstore.projections import Projection, Statement
from eventstore.projections.queries import QueryHandlers, Rows, equals

# The write side: what may happen.


class AddTodo(Command, subject="todo.add", creates=True):
    """Add something to be done."""

    title: str


class CompleteTodo(Command, subject="todo.complete"):
    """Mark it as done."""


class TodoAdded(Event, subject="todo.added"):
    """Something is to be done."""

    title: str


class TodoCompleted(Event, subject="todo.completed"):
    """It is done."""


class Todo(Struct, frozen=True):
    """The state of a to-do; "" before it was added."""

    title: str = ""
    done: bool = False


todo = Decider("todo", initial=Todo)


@todo.decides
def add(todo: Todo, command: AddTodo) -> TodoAdded:
    """Rejects with `already_exists`."""
    if todo.title:
        raise Rejected("already_exists", f"{todo.title!r} was added before")
    return TodoAdded(title=command.title)


@todo.decides
def complete(todo: Todo, _command: CompleteTodo) -> TodoCompleted | None:
    """Rejects with `not_found`; idempotent."""
    if not todo.title:
        raise Rejected("not_found", "add it first")
    return None if todo.done else TodoCompleted()


@todo.evolves
def added(_todo: Todo, event: TodoAdded) -> Todo:
    """A new one."""
    return Todo(title=event.title)


@todo.evolves
def completed(todo: Todo, _event: TodoCompleted) -> Todo:
    """The same, done."""
    return Todo(title=todo.title, done=True)


# The read side: a table, how events change it, and a query that reads it.


table = Table(
    "todo",
    MetaData(),
    Column("id", String(128), primary_key=True),
    Column("title", Text, nullable=False),
    Column("done", Boolean, nullable=False),
)
todos = Projection("todos", tables=[table])


@todos.handles
def insert_todo(event: TodoAdded, recorded: RecordedEvent) -> Statement:
    """A row for a new one."""
    return insert(table).values(id=recorded.aggregate_id, title=event.title, done=False)


@todos.handles
def update_todo(_event: TodoCompleted, recorded: RecordedEvent) -> Statement:
    """Mark its row."""
    return update(table).where(table.c.id == recorded.aggregate_id).values(done=True)


class TodoView(Struct):
    """A row."""

    id: str
    title: str
    done: bool


class ListTodos(ListQuery[TodoView], subject="todo.list"):
    """List to-dos by title."""

    done: bool | None = None


handlers = QueryHandlers(todos)


@handlers.answers
def list_todos(query: ListTodos, rows: Rows) -> Listed[TodoView]:
    """All of them, or those that are done or not done."""
    statement = select(table).where(equals(table.c.done, query.done))
    return rows.page(query, statement, by=(table.c.title, table.c.id))


notifier = Subscriber("notifier")


@notifier.handles
async def notify(_event: TodoCompleted, recorded: RecordedEvent) -> None:
    """Handle an event that is published."""
    print(f"notified: {recorded.aggregate_id} is done")


app = Application(
    "todo",
    [todo],
    projections=[todos],
    queries=[handlers],
    subscribers=[notifier],
    version="1.0.0",
)


async def main(directory: Path = Path("var/todo")) -> None:
    """Run the service, add two to-dos, complete one, and list them."""
    async with app.running(directory=directory) as service:
        await service.execute(AddTodo(title="buy milk"), "milk")
        await service.execute(AddTodo(title="buy tea"), "tea")
        outcome = await service.execute(CompleteTodo(), "milk")
        for each in (await service.ask(ListTodos(), wait_for=outcome.position)).items:
            print(f"{each.title}: {'done' if each.done else 'to do'}")


if __name__ == "__main__":
    asyncio.run(main())
