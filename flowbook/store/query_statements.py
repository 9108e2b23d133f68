"""The statements that lists of runs are asked with, put together from a query.

Owns: one clause per condition, one expression per order, and the three shapes (a page, a count, a summary). Refuses:
texts of users in SQL: values go as parameters.

Only the conditions that were given appear. One text for all, ``($1 is null or flow = $1)``, would have one plan for
all, which uses no index. So a statement is named by its conditions, and planned at each execution: how rare a value is
decides what is quick.
"""

# ruff: noqa: S608  what is put together here are the clauses below; values are parameters
from __future__ import annotations

import json
from typing import Any, Final
from uuid import UUID

from flowbook.plan.query import MOST_COUNTED, MOST_RUNS, NEVER, RunQuery, id_part
from flowbook.store.driver import Statement
from flowbook.store.statements import RUN_COLUMNS

_RANKS: Final = {
    "created_at": "(extract(epoch from created_at) * 1000000)::bigint",
    "started_at": f"coalesce((extract(epoch from started_at) * 1000000)::bigint, {NEVER})",
    "ended_at": f"coalesce((extract(epoch from ended_at) * 1000000)::bigint, {NEVER})",
    "duration": f"coalesce((extract(epoch from ended_at - started_at) * 1000000)::bigint, {NEVER})",
    "flow": 'flow collate "C"',
    "status": 'status collate "C"',
}
"""`plan.query.rank` as SQL."""
INDEXED: Final = frozenset({"namespace", "flow", "status", "statuses", "no children"})
"""Conditions for which there is an index."""
_SUMMARY: Final = f"""
    select status, count(*)::int as n, null::float8 as mean, null::float8[] as parts from {{hit}} group by status
    union all
    select null, count(took)::int, avg(took), percentile_cont(array[0.5, 0.95]) within group (order by took)
    from (select date_part('epoch', ended_at - started_at) as took from {{hit}}
          {{more}} ended_at is not null and started_at is not null order by id desc limit {MOST_COUNTED}) timed
    """


class _Where:
    """Conditions with their parameters."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.clauses: list[str] = []
        self.values: list[Any] = []

    def add(self, name: str, clause: str, *values: Any) -> None:
        """A clause with a ``{}`` for the number of each value."""
        first = len(self.values) + 1
        self.names.append(name)
        self.clauses.append(clause.format(*(f"${first + i}" for i in range(len(values)))))
        self.values += values

    @property
    def sql(self) -> str:
        return " and ".join(self.clauses) or "true"


def page(query: RunQuery) -> tuple[Statement, list[Any]]:
    """The rows of a page."""
    where = _conditions(query)
    order, rank = ("desc" if query.descending else "asc"), _rank(query)
    _behind(query, where)
    by = f"id {order}" if rank is None else f"{rank} {order}, id {order}"
    columns = RUN_COLUMNS if query.inputs else RUN_COLUMNS.replace(" input,", " ''::bytea as input,")
    limit = max(0, min(query.limit, MOST_RUNS + 1))
    name = f"runs by {query.sort} {order} ({', '.join([*where.names, str(query.inputs)])})"
    if rank is None:
        sql = f"select {columns} from flowbook.run where {where.sql} order by {by} limit {limit}"
    else:
        # The ids first: an index has all that the order needs, and only the rows of the page are read.
        sql = f"""select {columns} from flowbook.run where id = any (array(
            select id from flowbook.run where {where.sql} order by {by} limit {limit})) order by {by}"""
    return Statement(f"{name} {limit}", sql, "A v7 id is in the order of time.", fresh=True), where.values


def count(query: RunQuery, most: int) -> tuple[Statement, list[Any]]:
    """How many, no further than one more than ``most``."""
    where = _conditions(query)
    _behind(query, where)
    sql = f"select count(*)::int from (select from flowbook.run where {where.sql} limit {int(most) + 1}) counted"
    name = f"count of runs to {most} by {query.sort} {query.descending} ({', '.join(where.names)})"
    return Statement(
        name, sql, "A list that is longer than anybody counts need not be counted.", fresh=True
    ), where.values


def summary(query: RunQuery) -> tuple[Statement, list[Any]]:
    """A row for each status, and one without a status for the times of all that have ended."""
    where = _conditions(query)
    name = f"summary of runs ({', '.join(where.names)})"
    if INDEXED.issuperset(where.names):
        sql = _SUMMARY.format(hit=f"flowbook.run where {where.sql}", more="and")
        return Statement(
            name, sql, "An index has all that either half needs: two short scans.", fresh=True
        ), where.values
    hit = f"select id, status, started_at, ended_at from flowbook.run where {where.sql}"
    sql = f"with hit as materialized ({hit}){_SUMMARY.format(hit='hit', more='where')}"
    return Statement(name, sql, "All rows have to be read, so they are read once.", fresh=True), where.values


def _rank(query: RunQuery) -> str | None:
    return None if query.sort == "created_at" and not query.children else _RANKS[query.sort]


def _behind(query: RunQuery, where: _Where) -> None:
    if query.after is None:
        return
    rank, sign = _rank(query), "<" if query.descending else ">"
    value, id = query.after
    if rank is None:
        where.add("after", f"id {sign} {{}}", id)
    else:
        kind = "text" if isinstance(value, str) else "bigint"
        where.add("after", f"({rank}, id) {sign} ({{}}::{kind}, {{}})", value, id)


def _conditions(query: RunQuery) -> _Where:
    where = _Where()
    if query.namespace is not None:
        where.add("namespace", "namespace = {}", query.namespace)
    if query.flow is not None:
        where.add("flow", "flow = {}", query.flow)
    if len(query.statuses) == 1:
        where.add("status", "status = {}", query.statuses[0].value)
    elif query.statuses:
        where.add("statuses", "status = any ({}::text[])", [s.value for s in query.statuses])
    if not query.children:
        where.add("no children", "parent_id is null")
    if query.ids is not None:
        where.add("ids", "id = any ({}::uuid[])", list(query.ids))
    if query.metadata:
        # That it is not empty follows, but not for the planner, whose index has only those.
        where.add("metadata", "(metadata @> {}::text::jsonb and metadata <> '{{}}'::jsonb)", json.dumps(query.metadata))
    if query.input:
        clause = "(searchable @> {}::text::jsonb and searchable <> '{{}}'::jsonb)"
        where.add("input", clause, json.dumps(query.input))
    if query.current:
        # Places are separated by ", ", and a path is NODE#NUMBER.
        end = "," if "#" in query.current else "#"
        where.add("current", "strpos(', ' || current || ',', {}) > 0", f", {query.current}{end}")
    if query.trigger is not None:
        where.add("trigger", "trigger = {}", query.trigger)
    if query.since is not None:
        where.add("since", "created_at >= {}", query.since)
    if query.until is not None:
        where.add("until", "created_at < {}", query.until)
    if query.text:
        _text(query.text.strip().lower(), where)
    return where


def _text(text: str, where: _Where) -> None:
    if (typed := id_part(text)) is None:
        where.add("text", "strpos(lower(concat_ws(chr(10), flow, key, error, current)), {}) > 0", text)
        return
    first, last = (UUID(hex=typed + filler * (32 - len(typed))) for filler in "0f")
    # Bytes are four times as quick as the text of an id; half a byte is looked at where the whole ones fit.
    whole = bytes.fromhex(typed[len(typed) % 2 :])
    ending = "substr(uuid_send(id), {}) = {} and right(replace(id::text, '-', ''), {}) = {}"
    where.add("id", f"(id between {{}} and {{}} or {ending})", first, last, 17 - len(whole), whole, len(typed), typed)
