"""Single mutations of a Python source: what each changes, from where to where.

Left alone is what no promise hangs on, or what nobody would notice by design: annotations,
docstrings, f-strings, what is logged, the text of errors, durations (which say how long and not
what: fractions, and arguments named `timeout`), and the keywords of classes.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple, TypeAlias

__all__ = ["Mutant", "apply", "mutants"]


class Mutant(NamedTuple):
    """One mutation: bytes `start` to `end` of the source become `after`.

    `line` is where it begins and `text` that line without its margin; `inside` is the function or
    class it is in, with those around that; `lines` are those of its statement, first and last.
    """

    kind: str
    start: int
    end: int
    before: str
    after: str
    line: int
    text: str
    inside: str
    lines: tuple[int, int]

    def __str__(self) -> str:
        return f"{self.kind}: {self.change}"

    @property
    def change(self) -> str:
        """What becomes what, in one line."""
        return f"{_one_line(self.before)} -> {_one_line(self.after) or 'nothing'}"


Change: TypeAlias = tuple[str, ast.AST, str]  # the kind, what is replaced, and by which text

_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.BitAnd: ast.BitOr,
}
_OPPOSITES = {"min": "max", "max": "min", "any": "all", "all": "any"}
_NEED_ALL = ("isinstance", "max", "min")
_WIDE = ("Exception", "BaseException")
_SAID = ("_logger", "logging", "warnings")


def mutants(source: str) -> list[Mutant]:
    """All mutations of a source, in its order."""
    data = source.encode()
    begins = [0, *accumulate(len(line) for line in data.splitlines(keepends=True))]
    found = []
    for (kind, node, after), statement, inside in _changes(ast.parse(source)):
        start, end = _span(node, begins)
        before = data[start:end].decode()
        line = data.count(b"\n", 0, start) + 1
        text = source.splitlines()[line - 1].strip()
        if before != after:
            place = line, text, inside.name, inside.cached or _reach(statement)
            found.append(Mutant(kind, start, end, before, after, *place))
    return sorted(set(found), key=lambda each: (each.start, each.end, each.after))


def apply(source: str, mutant: Mutant) -> str:
    """The source with the mutation in it."""
    data = source.encode()
    return (data[: mutant.start] + mutant.after.encode() + data[mutant.end :]).decode()


def _span(node: ast.AST, begins: Sequence[int]) -> tuple[int, int]:
    assert isinstance(node, ast.expr | ast.stmt | ast.keyword)
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    return (
        begins[node.lineno - 1] + node.col_offset,
        begins[node.end_lineno - 1] + node.end_col_offset,
    )


def _reach(statement: ast.stmt) -> tuple[int, int]:
    """The lines by which a run shows that it has come to a statement, or to its condition."""
    body = getattr(statement, "body", None)
    last = body[0].lineno - 1 if body else statement.end_lineno or statement.lineno
    return statement.lineno, max(statement.lineno, last)


class _Inside(NamedTuple):
    """The function or class that a statement is in; the lines of its head if it keeps results.

    One that does is run by the first test that calls it, and matters to all that do.
    """

    name: str = ""
    cached: tuple[int, int] | None = None

    def enter(self, statement: ast.stmt) -> _Inside:
        if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            return self
        name = f"{self.name}.{statement.name}".lstrip(".")
        keeps = any("cache" in ast.unparse(each) for each in statement.decorator_list)
        return _Inside(name, (statement.lineno, statement.lineno) if keeps else self.cached)


_NOWHERE = _Inside()


def _changes(tree: ast.Module) -> Iterator[tuple[Change, ast.stmt, _Inside]]:
    for statement, inside in _statements(tree.body):
        for change in _of_statement(statement):
            yield change, statement, inside
        for part in _expressions(statement):
            for node in _worth_changing(part):
                for change in _of_expression(node):
                    yield change, statement, inside


def _statements(
    body: Sequence[ast.stmt], inside: _Inside = _NOWHERE
) -> Iterator[tuple[ast.stmt, _Inside]]:
    """All statements, also inside others, except those that are left alone; and what each is in."""
    for statement in body:
        if _is_left_alone(statement):
            continue
        here = inside.enter(statement)
        yield statement, here
        for name in ("body", "orelse", "finalbody"):
            yield from _statements(getattr(statement, name, ()), here)
        for part in (*getattr(statement, "handlers", ()), *getattr(statement, "cases", ())):
            yield from _statements(part.body, here)


def _is_left_alone(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Import | ast.ImportFrom | ast.Assert | ast.Pass):
        return True
    if isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING":
        return True
    if isinstance(statement, ast.Assign):
        is_all = [ast.unparse(each) for each in statement.targets] == ["__all__"]
        return is_all or ast.unparse(statement.value).startswith("TypeVar(")
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant) or _is_said(statement.value)
    return False


def _is_said(node: ast.expr) -> bool:
    """Whether it only tells people something."""
    return isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[0] in _SAID


def _expressions(statement: ast.stmt) -> Iterator[ast.expr]:
    """The expressions of a statement itself that may be changed."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
        yield from statement.args.defaults
        yield from (each for each in statement.args.kw_defaults if each is not None)
    elif isinstance(statement, ast.Try):
        yield from (each.type for each in statement.handlers if each.type is not None)
    elif isinstance(statement, ast.AnnAssign):
        yield from [statement.value] if statement.value else []
    elif isinstance(statement, ast.With | ast.AsyncWith):
        yield from (item.context_expr for item in statement.items)
    elif not isinstance(statement, ast.ClassDef | ast.Raise):
        yield from (each for each in ast.iter_child_nodes(statement) if isinstance(each, ast.expr))


def _worth_changing(root: ast.expr) -> Iterator[ast.expr]:
    """An expression and those inside it, but for what is left alone."""
    if isinstance(root, ast.JoinedStr) or _is_said(root):
        return
    yield root
    for child in ast.iter_child_nodes(root):
        if isinstance(child, ast.expr):
            yield from _worth_changing(child)
        elif isinstance(child, ast.keyword):
            yield from _worth_changing(child.value)
        elif isinstance(child, ast.comprehension):
            for part in (child.iter, *child.ifs):
                yield from _worth_changing(part)


def _of_statement(statement: ast.stmt) -> Iterator[Change]:
    if isinstance(statement, ast.If | ast.While):
        yield "condition negated", statement.test, f"(not ({ast.unparse(statement.test)}))"
    elif isinstance(statement, ast.Try):
        for handler in statement.handlers:
            yield from _of_handler(handler)
    elif isinstance(statement, ast.Return):
        if statement.value is not None and ast.unparse(statement.value) != "None":
            yield "return value changed", statement.value, "None"
    elif isinstance(statement, ast.Break):
        yield "statement changed", statement, "continue"
    elif isinstance(statement, ast.Continue):
        yield "statement changed", statement, "break"
    elif _may_be_removed(statement):
        yield "statement removed", statement, "pass"
    for listed in _listed(statement):
        yield from _one_less("element dropped", listed)


def _may_be_removed(statement: ast.stmt) -> bool:
    """Whether what is left can run at all: a name that is not bound would be noticed by anybody."""
    if isinstance(statement, ast.Assign):
        return not any(isinstance(each, ast.Name | ast.Tuple) for each in statement.targets)
    return isinstance(statement, ast.Expr | ast.AugAssign | ast.Raise | ast.Delete)


def _of_handler(handler: ast.ExceptHandler) -> Iterator[Change]:
    if handler.type is None or ast.unparse(handler.type) in _WIDE:
        return
    yield "except widened", handler.type, "Exception"
    if isinstance(handler.type, ast.Tuple):
        yield from _one_less("except narrowed", handler.type)


def _of_expression(node: ast.expr) -> Iterator[Change]:
    if isinstance(node, ast.Compare):
        yield from _of_comparison(node)
    elif isinstance(node, ast.BoolOp):
        yield from _of_bool(node)
    elif isinstance(node, ast.BinOp):
        yield from _of_arithmetic(node)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield "condition negated", node, f"({ast.unparse(node.operand)})"
    elif isinstance(node, ast.IfExp):
        yield "condition negated", node.test, f"(not ({ast.unparse(node.test)}))"
    elif isinstance(node, ast.Constant):
        yield from _of_constant(node)
    elif isinstance(node, ast.Call):
        yield from _of_call(node)
    for listed in _listed(node):
        yield from _one_less("element dropped", listed)


def _listed(node: ast.AST) -> Iterator[ast.Tuple]:
    """Tuples that are a list of something, and not values that somebody takes apart."""
    places: Sequence[ast.AST | None] = ()
    if isinstance(node, ast.Compare):
        places = node.comparators
    elif isinstance(node, ast.Call):
        places = node.args
    elif isinstance(node, ast.Assign) and all(isinstance(each, ast.Name) for each in node.targets):
        places = [node.value]
    elif isinstance(node, ast.For | ast.AsyncFor):
        places = [node.iter]
    return (each for each in places if isinstance(each, ast.Tuple))


def _of_comparison(node: ast.Compare) -> Iterator[Change]:
    for index, operator in enumerate(node.ops):
        for other in _COMPARISONS[type(operator)]:
            ops = [*node.ops[:index], other(), *node.ops[index + 1 :]]
            changed = ast.Compare(node.left, ops, node.comparators)
            yield "comparison flipped", node, f"({ast.unparse(changed)})"


def _of_bool(node: ast.BoolOp) -> Iterator[Change]:
    other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    yield "and/or swapped", node, f"({ast.unparse(ast.BoolOp(other, node.values))})"
    for index in range(len(node.values)):
        rest = [*node.values[:index], *node.values[index + 1 :]]
        text = ast.unparse(rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest))
        yield "condition dropped", node, f"({text})"


def _of_arithmetic(node: ast.BinOp) -> Iterator[Change]:
    if isinstance(node.op, ast.BitOr):  # mostly a union of types
        yield "alternative dropped", node, f"({ast.unparse(node.left)})"
        yield "alternative dropped", node, f"({ast.unparse(node.right)})"
    elif (other := _ARITHMETIC.get(type(node.op))) is not None and not _is_text(node):
        changed = ast.BinOp(node.left, other(), node.right)
        yield "operator changed", node, f"({ast.unparse(changed)})"


def _is_text(node: ast.expr) -> bool:
    return any(
        isinstance(each, ast.JoinedStr)
        or (isinstance(each, ast.Constant) and isinstance(each.value, str | bytes))
        for each in ast.walk(node)
    )


def _of_constant(node: ast.Constant) -> Iterator[Change]:
    value = node.value
    if isinstance(value, bool):
        yield "constant changed", node, str(not value)
    elif isinstance(value, int):
        yield "constant changed", node, str(value + 1)
        yield "constant changed", node, str(value - 1)
    elif isinstance(value, str | bytes):
        changed = value + ("x" if isinstance(value, str) else b"x")  # type: ignore[operator]
        yield "constant changed", node, repr(changed)


def _of_call(node: ast.Call) -> Iterator[Change]:
    for index, keyword in enumerate(node.keywords):
        if keyword.arg == "timeout":
            continue
        keywords = [*node.keywords[:index], *node.keywords[index + 1 :]]
        yield "argument dropped", node, ast.unparse(ast.Call(node.func, node.args, keywords))
    if len(node.args) > 1 and ast.unparse(node.func) not in _NEED_ALL:
        yield (
            "argument dropped",
            node,
            ast.unparse(ast.Call(node.func, node.args[:-1], node.keywords)),
        )
    if isinstance(node.func, ast.Name) and node.func.id in _OPPOSITES:
        yield "function changed", node.func, _OPPOSITES[node.func.id]


def _one_less(kind: str, node: ast.Tuple) -> Iterator[Change]:
    for index in range(len(node.elts)):
        rest = ast.Tuple([*node.elts[:index], *node.elts[index + 1 :]], ast.Load())
        yield kind, node, f"({ast.unparse(rest)})" if rest.elts else "()"


def _one_line(text: str) -> str:
    return " ".join(text.split())
