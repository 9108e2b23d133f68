"""Changes: what an edit did to a flow, in words.

Owns: comparing two definitions, or their stored JSON (`source.py` says what is in it), and telling whether a journal of
the one can be read by the other (`same_topology`). Refuses: judging whether a run may go on (`plan/` does). Comments,
layout and docstrings are no changes, as they are none to the fingerprint.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from flowbook.codec import decode
from flowbook.errors import FlowbookError
from flowbook.graph.canonical import tree
from flowbook.graph.durations import spoken
from flowbook.graph.locate import parse_definition


class Defined(Protocol):
    """A `Described`, or a definition as the store has it."""

    @property
    def spec(self) -> Mapping[str, Any]: ...
    @property
    def sources(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Nested:
    """A flow that a sub-flow runs."""

    spec: Mapping[str, Any]
    sources: Mapping[str, Any]


def nested(d: Defined) -> Mapping[str, Nested]:
    """Fingerprint -> each flow that a sub-flow of a definition runs."""
    return {k: Nested(f["spec"], f["sources"]) for k, f in (d.sources.get("flows") or {}).items()}


def changes(old: Defined, new: Defined) -> tuple[str, ...]:
    """What is different in ``new``, one text per difference; empty where nothing is that counts."""
    found = [
        *_nodes(old.spec, new.spec),
        *_flows(old, new),
        *_code(old, new),
        *_exchanged(old, new),
        *_state(old.spec, new.spec),
        *_names(old, new),
    ]
    return tuple(dict.fromkeys(found))


def same_topology(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """True if two specs have the same nodes, leading to the same places: a journal of one can be read by the other."""
    return _map_of(old) == _map_of(new)


def changed_nodes(old: Defined, new: Defined) -> frozenset[str]:
    """The nodes of both whose step, condition or router is another one, or has other options."""
    before, after = (d.sources.get("callables") or {} for d in (old, new))
    found = set()
    nodes = {n["name"]: n for n in old.spec.get("nodes") or ()}
    for node in new.spec.get("nodes") or ():
        if (was := nodes.get(node["name"])) is None:
            continue
        for role in ("step", "when", "router"):
            one, other = before.get(was.get(role, "")), after.get(node.get(role, ""))
            if (one is None) is not (other is None) or (one and other and identity_of(one) != identity_of(other)):
                found.add(node["name"])
        if any(was.get(part) != node.get(part) for part in ("policy", "wait", "map", "flow")):
            found.add(node["name"])
    return frozenset(found)


def _map_of(spec: Mapping[str, Any]) -> tuple[Any, Any, list[str]]:
    """What the rows of a journal are read by: where tokens go, and which kind of outcome each node has."""
    shape, kinds = ("name", "ways", "labels", "wait"), ("map", "flow", "body")
    nodes = sorted(str([*(n.get(k) for k in shape), *(k in n for k in kinds)]) for n in spec.get("nodes") or ())
    return spec.get("entry"), spec.get("races"), nodes


def _nodes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    before, after = ({n["name"]: n for n in spec.get("nodes") or ()} for spec in (old, new))
    if old.get("name") != new.get("name"):
        yield f"the flow is called {new.get('name')} instead of {old.get('name')}"
    yield from (f"step `{n}` added" for n in after if n not in before)
    yield from (f"step `{n}` removed" for n in before if n not in after)
    for name in after:
        if name in before:
            yield from _options(name, before[name].get("policy") or {}, after[name].get("policy") or {})
            yield from _maps(name, before[name].get("map"), after[name].get("map"))
            yield from _undo(name, before[name].get("undo"), after[name].get("undo"))
            yield from _waits(name, before[name].get("wait"), after[name].get("wait"))
            yield from _ways(name, before[name], after[name])
    yield from _races(old, new)
    yield from _limits(old, new)
    if old.get("entry") != new.get("entry") and set(new.get("entry") or ()) <= before.keys():
        yield f"it begins with {_list(new.get('entry') or ())}"


def _limits(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    if old.get("run_timeout") != new.get("run_timeout"):
        was, now = (spoken(s["run_timeout"]) if s.get("run_timeout") else "no limit" for s in (old, new))
        yield f"its run_timeout is {now} instead of {was}"
    if old.get("outputs") != new.get("outputs"):
        yield f"its result is {_list(new['outputs']) or 'nothing' if 'outputs' in new else 'all of the state'}"
    if old.get("recursion_limit") != new.get("recursion_limit"):
        was, now = (spec.get("recursion_limit", "the default") for spec in (old, new))
        yield f"its recursion limit is {now} instead of {was}"


def _races(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    before, after = ({node for node, _ in spec.get("races") or ()} for spec in (old, new))
    yield from (f"the first behind {node} wins" for node in sorted(after - before))
    yield from (f"all behind {node} are waited for, not the first" for node in sorted(before - after))


def _options(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for option in sorted(old.keys() | new.keys()):
        if old.get(option) != new.get(option):
            was, now = (repr(o[option]) if option in o else "its default" for o in (old, new))
            yield f"step `{name}`: {option} is {now} instead of {was}"


def _undo(name: str, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> Iterator[str]:
    if old is None or new is None:
        if old != new:
            yield f"`{name}` has no compensation any more" if new is None else f"`{name}` has a compensation"
        return
    if old["name"] != new["name"]:
        yield f"the compensation of `{name}` is {new['name']} instead of {old['name']}"
    yield from _options(f"{name}, compensation", old["policy"], new["policy"])


def _ways(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    if ("labels" in old) != ("labels" in new):
        yield f"a branch stands behind {name}" if "labels" in new else f"no branch stands behind {name} any more"
        return
    if "labels" not in new:
        if old.get("ways") != new.get("ways"):
            yield f"`{name}` leads to {_list((new.get('ways') or [()])[0]) or 'END'}"
        return
    before, after = (dict(zip(map(_label, n["labels"]), n["ways"], strict=False)) for n in (old, new))
    yield from (f"branch behind {name}: new case {case}" for case in after if case not in before)
    yield from (f"branch behind {name}: no case {case} any more" for case in before if case not in after)
    for case, way in after.items():
        if case in before and before[case] != way:
            yield f"branch behind {name}: {case} leads to {_list(way) or 'END'}"


def _waits(name: str, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> Iterator[str]:
    if old == new:
        return
    if old is None or new is None:
        yield f"`{name}` is a {'step' if new is None else 'pause'} now"
        return
    was, now = ([s for s, _ in it["signals"]] for it in (old, new))
    if was != now:
        yield f"`{name}` waits for {_list(now) or 'nothing'} instead of {_list(was) or 'nothing'}"
    if old["seconds"] != new["seconds"]:
        before, after = ("no limit" if it["seconds"] is None else spoken(it["seconds"]) for it in (old, new))
        yield f"`{name}`: its time is {after} instead of {before}"
    if old["into"] != new["into"]:
        yield f"`{name}` puts its payload into {new['into'] or 'the key of the signal'}"


def _flows(old: Defined, new: Defined) -> Iterator[str]:
    before, after = ({n["name"]: n["flow"] for n in d.spec.get("nodes") or () if "flow" in n} for d in (old, new))
    had, has = nested(old), nested(new)
    steps = {n["name"] for n in old.spec.get("nodes") or ()}
    maps = {n["name"] for n in new.spec.get("nodes") or () if "map" in n}
    for name, flow in after.items():
        if name not in before:
            if name in steps:
                yield f"`{name}` {'maps a flow' if name in maps else 'is a sub-flow'} now"
            continue
        was = before[name]
        if was["fingerprint"] != flow["fingerprint"]:
            found: tuple[str, ...] = ()
            if was["fingerprint"] in had and flow["fingerprint"] in has:
                found = changes(had[was["fingerprint"]], has[flow["fingerprint"]])
            yield from (f"sub-flow `{name}`: {text}" for text in found or (f"it runs another {flow['name']}",))
        for what in ("input", "into", "key", "queue"):
            if was[what] != flow[what]:
                yield f"sub-flow `{name}`: {what} is {flow[what]!r} instead of {was[what]!r}"


def _maps(name: str, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> Iterator[str]:
    if old is None or new is None:
        if old != new:
            yield f"`{name}` is {'a step' if new is None else 'a map'} now"
        return
    texts = {"over": "maps over {}", "into": "puts its results into {}", "concurrency": "has {} items at once"}
    yield from (f"`{name}` {text.format(new[k] or name)}" for k, text in texts.items() if old[k] != new[k])
    if old.get("item") != new.get("item"):
        yield f"`{name}`: an item is {repr(new['item']) if new.get('item') else 'no named input'} of its flow now"
    if old["collect"] != new["collect"]:
        yield f"`{name}`: an item that fails {'is collected' if new['collect'] else 'fails the run'} now"


def _label(label: str) -> str:
    return label if label in ("True", "False", "None") or not label.isidentifier() else repr(label)


def _code(old: Defined, new: Defined) -> Iterator[str]:
    before, after = (d.sources.get("callables") or {} for d in (old, new))
    roles = {**_roles(old), **_roles(new)}
    for key, entry in after.items():
        role = roles.get(key) or _kind(key, entry)
        if key not in before:
            if key not in roles:
                yield f"{role} added"
        elif identity_of(before[key]) != identity_of(entry):
            yield f"{role} changed"
    gone = {key: entry for key, entry in before.items() if key not in after and key not in roles}
    yield from (f"{_kind(key, entry)} removed" for key, entry in gone.items())


def _exchanged(old: Defined, new: Defined) -> Iterator[str]:
    """Nodes whose function is another one, of another name."""
    before, after = ({n["name"]: n.get("step") for n in d.spec.get("nodes") or ()} for d in (old, new))
    changed = changed_nodes(old, new)
    yield from (f"step `{n}` changed" for n in after if n in changed and before[n] != after[n])


def _roles(d: Defined) -> dict[str, str]:
    """Key -> what a callable is in the topology."""
    found: dict[str, str] = {}
    for node in d.spec.get("nodes") or ():
        if "step" in node:
            found.setdefault(node["step"], f"step `{node['name']}`")
        if "when" in node:
            found.setdefault(node["when"], f"the condition of `{node['name']}`")
        if "retry_if" in node:
            found.setdefault(node["retry_if"], f"the retry_on of `{node['name']}`")
        for what in ("input", "key"):
            if isinstance(callable_ := (node.get("flow") or {}).get(what), str):
                found.setdefault(callable_, f"{what}= of sub-flow `{node['name']}`")
        if "undo" in node:
            found.setdefault(node["undo"]["step"], f"the compensation of `{node['name']}`")
        if "router" in node:
            found.setdefault(node["router"], f"the router behind {node['name']}")
    if d.spec.get("state"):
        found[d.spec["state"]["class"]] = f"state `{d.spec['state']['class']}`"
    return found


def _kind(key: str, entry: Mapping[str, Any]) -> str:
    return f"{'class' if entry.get('kind') == 'class' else 'helper'} `{key}`"


def identity_of(entry: Mapping[str, Any]) -> Any:
    """What makes a callable's own code the same as another's, as far as its text tells."""
    if "text" not in entry:
        return [entry.get(k) for k in ("kind", "module", "attribute", "type", "code")]
    try:
        return [tree(parse_definition(entry["text"]), entry["decorators"]), entry["flags"]]
    except (SyntaxError, ValueError):
        return entry["text"]


def _state(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    before, after = (spec.get("state") or {} for spec in (old, new))
    if bool(before) != bool(after):
        yield "it has a state schema" if after else "it has no state schema any more"
        return
    had, has = before.get("fields") or {}, after.get("fields") or {}
    yield from (f"state key `{key}` added" for key in has if key not in had)
    yield from (f"state key `{key}` removed" for key in had if key not in has)


def _names(old: Defined, new: Defined) -> Iterator[str]:
    """Constants, imports and data whose readers are the same, but which are not."""
    before, after = _meanings(old), _meanings(new)
    for where, meaning in after.items():
        was, name = before.get(where), where[1]
        match was, meaning:
            case None, _:
                pass  # its reader changed, and that is said already
            case ["constant", x], ["constant", y]:
                if old.sources["constants"].get(x) != new.sources["constants"].get(y):
                    yield f"constant `{name}` is {shown_constant(new, y)} instead of {shown_constant(old, x)}"
            case ["data", *_], ["data", *_]:
                pass
            case _ if was == meaning:
                pass
            case ["flow", x], ["flow", y]:
                had, has = nested(old), nested(new)
                found = changes(had[x], has[y]) if x in had and y in has else ()
                yield from (f"flow `{name}`: {text}" for text in found or ("it is another one",))
            case ["steps", x], ["steps", y]:
                before_it, now = [n for n, _ in x], [n for n, _ in y]
                yield from (f"`{name}` has `{n}` now" for n in now if n not in before_it)
                yield from (f"`{name}` has no `{n}` any more" for n in before_it if n not in now)
            case ["import", *_], ["import", *_]:
                yield f"`{name}` is imported by `{meaning[1]}` instead of `{was[1]}`"
            case _:
                yield f"`{name}` is {_WHAT.get(meaning[0], meaning[0])} instead of {_WHAT.get(was[0], was[0])}"


_WHAT = {"import": "an import", "callable": "a function or class", "step": "a step", "constant": "a constant",
         "flow": "a flow", "steps": "a dict of steps", "data": "data", "missing": "undefined"}  # fmt: skip


def _meanings(d: Defined) -> dict[tuple[str, str], list[Any]]:
    """(callable, name) -> what it means there."""
    found: dict[tuple[str, str], list[Any]] = {}
    scopes = d.sources.get("scopes") or []
    for key, entry in (d.sources.get("callables") or {}).items():
        for name in entry.get("names") or ():
            found[key, name] = scopes[entry["scope"]]["names"][name]
        for name, meaning in (entry.get("private") or {}).items():
            found[key, name] = meaning
    return found


def shown_constant(d: Defined, key: str) -> str:
    """A stored constant as a short text."""
    try:
        text = repr(decode(base64.b64decode(d.sources["constants"][key])))
    except (FlowbookError, KeyError, ValueError):
        return "another value"
    return text if len(text) <= 40 else text[:40] + "…"


def _list(names: Any) -> str:
    return ", ".join(names)
