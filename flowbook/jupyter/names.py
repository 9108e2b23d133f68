"""Names: which words of a flow cell mean the language of topologies.

Owns: the rewriting of a flow cell's syntax tree. Refuses: running anything, and the user's namespace: ``step`` there
stays whatever the user made it.

In the cell's own top level, and only in decorators and in expressions that are topologies, the words of `WORDS` are
looked up in flowbook; never inside a function's or a lambda's body. So ``from time import sleep`` and a variable called
``step`` mean in a step's body what they mean everywhere else. A word that the cell itself defines is left alone.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from flowbook.graph.expression import END_NODE, START_NODE, Composable, Fragment, Unknown, branch
from flowbook.graph.mapping import Map, map_
from flowbook.graph.pause import Pause, sleep, wait, wait_any
from flowbook.graph.race import parallel, race
from flowbook.graph.resource import resource
from flowbook.graph.step import Backoff, Step, step, value, when
from flowbook.graph.subflow import subflow
from flowbook.jupyter.parse import known

HOOK = "__flowbook__"
"""The one name that the rewritten cell needs; it stands among the builtins while the extension is loaded."""

WORDS: dict[str, Any] = {
    "step": step, "START": START_NODE, "END": END_NODE, "branch": branch, "value": value, "Backoff": Backoff,
    "resource": resource, "when": when, "wait": wait, "wait_any": wait_any, "sleep": sleep, "map_": map_,
    "parallel": parallel, "race": race, "subflow": subflow,
}  # fmt: skip


class Words:
    """What the words mean at the moment: a node of the user's with such a name is meant before ours."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        self._namespace = namespace

    def named(self, name: str, look: Callable[[], Any]) -> Any:
        """A node of a topology; one that is not defined becomes a mistake that is reported with all the others."""
        try:
            return look()
        except NameError:
            near = known(name, [n for n, v in self._namespace.items() if isinstance(v, Step | Pause | Map)])
            missing = Unknown(f"{name!r} is not defined{near}")
            return Fragment(heads=(missing,), tails=((missing, False),))

    def __getattr__(self, name: str) -> Any:
        own = self._namespace.get(name)
        return own if isinstance(own, Composable) else WORDS[name]


def rewrite(module: ast.Module) -> ast.Module:
    """A flow cell with its words resolved and its bare expressions collected; any other cell as it is."""
    if not is_flow_cell(module):
        return module
    words = frozenset(WORDS) - _defined(module.body)
    for statement in module.body[1:-1]:
        match statement:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                statement.decorator_list = [_resolve(d, words) for d in statement.decorator_list]
            case ast.Expr():
                # A bare `sleep(1)` is the user's own nap; a node that stands alone joins nothing.
                if _is_topology(statement.value, words - {"sleep"}):
                    statement.value = _nodes(_resolve(statement.value, words))
                statement.value = _call("collect", statement.value)
            case ast.Assign() | ast.AnnAssign() if statement.value is not None:
                if _is_topology(statement.value, words):
                    statement.value = _nodes(_resolve(statement.value, words))
            case _:
                pass
    match module.body[-1]:
        case ast.Expr(ast.Call() as end):
            end.args = [ast.Constant(name) for name in _bodies(module.body[1:-1])]
        case _:
            pass
    return ast.fix_missing_locations(module)


def _bodies(statements: Sequence[ast.stmt]) -> list[str]:
    """The names of the cell's ``async def NAME(ctx, ...)``: one of them alone is an imperative flow."""
    return [
        s.name
        for s in statements
        if isinstance(s, ast.AsyncFunctionDef) and not s.decorator_list and s.args.args and s.args.args[0].arg == "ctx"
    ]


def is_flow_cell(module: ast.AST) -> bool:
    """Was this cell framed by the input transformer (`cell.framed`)?"""
    body = getattr(module, "body", None)
    if not isinstance(module, ast.Module) or not body:
        return False
    match body[0]:
        case ast.Expr(ast.Call(ast.Attribute(ast.Name(id=hook), "begin"))):
            return hook == HOOK
        case _:
            return False


def _is_topology(expression: ast.expr, words: frozenset[str]) -> bool:
    """Does it put nodes together (``>>``), or begin with one of the words (``gate = branch(...)``)?"""
    if any(isinstance(n, ast.BinOp) and isinstance(n.op, ast.RShift) for n in _outside_bodies(expression)):
        return True
    root: ast.expr = expression
    while isinstance(root, ast.Call | ast.Attribute):
        root = root.func if isinstance(root, ast.Call) else root.value
    return isinstance(root, ast.Name) and root.id in words


def _outside_bodies(node: ast.AST) -> Iterable[ast.AST]:
    if isinstance(node, ast.Lambda):
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _outside_bodies(child)


def _defined(body: Sequence[ast.stmt]) -> set[str]:
    """Names that the cell's own top level gives to functions, classes and variables."""
    found: set[str] = set()
    for statement in body:
        match statement:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.Assign(targets=targets):
                found |= {n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)}
            case ast.AnnAssign(target=ast.Name(id=name)):
                found.add(name)
            case _:
                pass
    return found


class _Resolver(ast.NodeTransformer):
    def __init__(self, words: frozenset[str]) -> None:
        self._words = words

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id not in self._words or not isinstance(node.ctx, ast.Load):
            return node
        return ast.copy_location(ast.Attribute(_words(), node.id, ast.Load()), node)


def _resolve(expression: ast.expr, words: frozenset[str]) -> ast.expr:
    resolved = _Resolver(words).visit(expression)
    assert isinstance(resolved, ast.expr)
    return resolved


def _nodes(expression: ast.expr) -> ast.expr:
    """A topology with the lookup of its nodes guarded: operands, list items and the targets of a branch."""
    match expression:
        case ast.Name():
            look = ast.Lambda(ast.arguments([], [], None, [], [], None, []), expression)
            function = ast.Attribute(_words(), "named", ast.Load())
            guarded: ast.expr = ast.Call(function, [ast.Constant(expression.id), look], [])
            return ast.copy_location(guarded, expression)
        case ast.BinOp(op=ast.RShift()):
            expression.left, expression.right = _nodes(expression.left), _nodes(expression.right)
        case ast.List() | ast.Tuple():
            expression.elts = [_nodes(e) for e in expression.elts]
        case ast.Call(func=ast.Attribute(attr="race" | "parallel")):
            expression.args = [_nodes(a) for a in expression.args]
        case ast.Call():
            if isinstance(expression.func, ast.Attribute) and expression.func.attr == "map_" and expression.args:
                expression.args[0] = _nodes(expression.args[0])
            for argument in expression.args:
                if isinstance(argument, ast.Dict):
                    argument.values = [_nodes(v) for v in argument.values]
            for keyword in expression.keywords:
                if keyword.arg == "on_timeout":
                    keyword.value = _nodes(keyword.value)
        case _:
            pass
    return expression


def _words() -> ast.expr:
    return ast.Attribute(ast.Name(HOOK, ast.Load()), "words", ast.Load())


def _call(method: str, argument: ast.expr) -> ast.expr:
    function = ast.Attribute(ast.Name(HOOK, ast.Load()), method, ast.Load())
    return ast.copy_location(ast.Call(function, [argument], []), argument)
