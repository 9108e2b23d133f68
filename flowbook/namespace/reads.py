"""Reads: which variables a cell has from before it, read from its code.

Owns: the scopes of a cell. Refuses: the values. (`reach.py` asks what a cell might touch, and errs on the other side.)
"""

from __future__ import annotations

import ast
import symtable
from collections.abc import Sequence

from flowbook.namespace.reach import reach


def reads(source: str) -> list[str]:
    """Variables that code reads before it binds them itself, in order; what it may not have bound counts as read."""
    found: dict[str, None] = {}
    _block(ast.parse(source).body, set(), found)
    return list(found)


def _block(body: Sequence[ast.stmt], bound: set[str], found: dict[str, None]) -> None:
    """Statements one after the other; ``bound`` grows by what is certainly bound behind each."""
    for statement in body:
        match statement:
            case ast.With() | ast.AsyncWith():
                _take([i.context_expr for i in statement.items], bound, found)
                bound |= {n for i in statement.items if i.optional_vars for n in _stored(i.optional_vars)}
                _block(statement.body, bound, found)
            case ast.For() | ast.AsyncFor():
                _take([statement.iter], bound, found)
                _block(statement.body, bound | _stored(statement.target), found)
                _block(statement.orelse, set(bound), found)
            case ast.If() | ast.While():
                _take([statement.test], bound, found)
                _block(statement.body, set(bound), found)
                _block(statement.orelse, set(bound), found)
            case ast.Try() | ast.TryStar():
                _block(statement.body, set(bound), found)
                for handler in statement.handlers:
                    _take([handler.type] if handler.type else [], bound, found)
                    _block(handler.body, bound | ({handler.name} if handler.name else set()), found)
                _block(statement.orelse, set(bound), found)
                _block(statement.finalbody, set(bound), found)
            case _:
                found.update(dict.fromkeys(n for n in _read(statement) if n not in bound))
                if not isinstance(statement, ast.Delete | ast.Match):
                    bound |= reach(ast.unparse(statement)).stored


def _take(expressions: Sequence[ast.expr], bound: set[str], found: dict[str, None]) -> None:
    for expression in expressions:
        found.update(dict.fromkeys(n for n in _read(ast.Expr(expression)) if n not in bound))


def _stored(target: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(target) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}


def _read(statement: ast.stmt) -> list[str]:
    """Names of the notebook's that a statement reads, those inside of its functions included."""
    names = [
        n.target.id for n in ast.walk(statement) if isinstance(n, ast.AugAssign) and isinstance(n.target, ast.Name)
    ]
    names += [n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Del)]
    try:
        tables = [symtable.symtable(ast.unparse(statement), "<cell>", "exec")]
    except SyntaxError:
        return [n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)]
    top = tables[0]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        names += [s.get_name() for s in table.get_symbols() if s.is_referenced() and (table is top or s.is_global())]
    return list(dict.fromkeys(names))
