"""The transcript: a conversation with an agent as a still page.

Owns: messages, tool calls with their results, and what each turn cost, as HTML and as text. Refuses: raw HTML, remote
pictures and links that run script in what a model says: its markdown is rendered by markdown-it with HTML switched off.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from typing import Any

from flowbook.observe.transcripts import Said, Transcript
from flowbook.show.safe import clean, duration, escape

LONGEST = 20_000
"""Characters of one message that are shown."""
CLIP = 120
MOST_RAW = 50
"""Answers whose request and response are shown as well."""
LARGEST = 1_500_000
"""Characters of an image's data URL that is shown."""
_IMAGE = re.compile(r"data:image/(png|jpeg|gif|webp);base64,[A-Za-z0-9+/=]+")

_WHO = {"user": ("you", "#2f6feb"), "assistant": ("agent", "#1a7f37"), "tool": ("tool", "#8250df")}
_BLOCK = "margin:6px 0;padding:2px 0 2px 10px;border-left:3px solid {0}"
_PRE = "white-space:pre-wrap;margin:4px 0;font-size:.92em"


def transcript_html(it: Transcript) -> str:
    """The whole conversation; tool results stand with their calls."""
    results = {s.message.get("tool_call_id"): s for s in it.said if s.role == "tool"}
    raws = _raws(it)
    sums = it.running()
    shown = [_said(s, results, sums[i], raws.get(i, "")) for i, s in enumerate(it.said) if s.role != "tool"]
    waiting = '<div class="fb-asking" style="opacity:.7">… the model is being asked</div>' if it.asking else ""
    totals = f'<div style="opacity:.7">{escape(total(it))}</div>' if any(s.turn for s in it.said) else ""
    return f'<div class="fb-transcript" style="margin:8px 0">{"".join(shown)}{waiting}{totals}</div>'


def transcript_plain(it: Transcript) -> str:
    """The same for terminals."""
    lines = []
    for said in it.said:
        who, _ = _WHO.get(said.role, (said.role, ""))
        if said.text:
            lines.append(f"{who}: {clean(said.text, LONGEST)}")
        lines += [f"{who} calls {clean(name)}({clean(arguments, CLIP)})" for _, name, arguments in said.calls]
    return "\n".join([*lines, total(it)])


def total(it: Transcript) -> str:
    """What all of it cost."""
    given, made = it.tokens
    turns = sum(s.turn is not None for s in it.said)
    parts = [f"{turns} turn{'' if turns == 1 else 's'}", f"{given:,} tokens in, {made:,} out", cost_text(it.usd)]
    return " · ".join(p for p in parts if p)


def cost_text(usd: Any) -> str:
    """``$0.0031``; empty where it is not known."""
    return f"${usd:.4f}" if isinstance(usd, int | float) else ""


def _said(said: Said, results: Mapping[Any, Said], so_far: tuple[int, float | None], raw: str) -> str:
    who, colour = _WHO.get(said.role, (said.role, "#8b95a7"))
    who = (said.turn or {}).get("agent") or who
    parts = [f'<div style="font-size:.85em"><b style="color:{colour}">{escape(who)}</b>{_facts(said, so_far)}</div>']
    if said.turn and said.turn.get("thinking"):
        thought = escape(said.turn["thinking"], LONGEST)
        parts.append(f'<details><summary>thinking</summary><pre style="{_PRE}">{thought}</pre></details>')
    if said.text:
        parts.append(markdown(said.text) if said.role == "assistant" else f'<pre style="{_PRE}">{_text(said)}</pre>')
    parts.append(pictures(said))
    parts += [_call(name, arguments, results.get(i)) for i, name, arguments in said.calls]
    parts.append(raw)
    return f'<div class="fb-message" title="{escape(said.path)}" style="{_BLOCK.format(colour)}">{"".join(parts)}</div>'


def _facts(said: Said, so_far: tuple[int, float | None]) -> str:
    turn = said.turn
    facts = [said.path] if said.path else []
    if turn:
        tokens = f"{turn.get('in', 0):,} → {turn.get('out', 0):,} tokens"
        facts += [str(turn.get("model", "")), tokens, cost_text(turn.get("usd")), duration(turn.get("seconds", 0.0))]
        facts += [str(t) for t in turn.get("troubles") or ()]
        facts.append(" ".join(f for f in ("so far", f"{so_far[0]:,} tokens", cost_text(so_far[1])) if f))
    return f'<span style="opacity:.65">&ensp;{escape(" · ".join(f for f in facts if f), 400)}</span>' if facts else ""


def _call(name: str, arguments: str, result: Said | None) -> str:
    """One line that opens: what was called, with what, and what came of it."""
    line = escape(f"{name}({' '.join(arguments.split())})", CLIP)
    came = "waits" if result is None else escape(" ".join(result.text.split()), CLIP)
    inside = f'<pre style="{_PRE}">{escape(_pretty(arguments), LONGEST)}</pre>'
    if result is not None:
        inside += f'<pre style="{_PRE}">{_text(result)}</pre>{pictures(result)}'
    summary = f'<summary><code>{line}</code> <span style="opacity:.75">→ {came}</span></summary>'
    return f'<details style="margin:2px 0">{summary}{inside}</details>'


def pictures(said: Said) -> str:
    """The images of a message, small; only those that it holds itself: nothing is fetched."""
    content = said.message.get("content")
    found = []
    for part in content if isinstance(content, list) else ():
        given = part.get("image_url") if isinstance(part, Mapping) else None
        url = given.get("url") if isinstance(given, Mapping) else given
        if isinstance(url, str) and len(url) <= LARGEST and _IMAGE.fullmatch(url):
            found.append(f'<img src="{url}" alt="image" style="max-height:120px;max-width:240px;margin:4px 6px 4px 0">')
    return "".join(found)


def _raws(it: Transcript) -> dict[int, str]:
    """Place of an answer -> what was sent for it and what came, without keys and headers; of the last ones.

    What a request repeats of those before it is counted: a page would grow with the square of a conversation.
    """
    found: dict[int, str] = {}
    since = 0
    for i, one in enumerate(it.said):
        if not one.turn:
            continue
        earlier = [f"... {since} earlier message{'' if since == 1 else 's'}, as above"] if since else []
        request = {"model": one.turn.get("model"), "messages": [*earlier, *(_sent(s) for s in it.said[since:i])]}
        response = {"message": one.message, **{k: v for k, v in one.turn.items() if k != "thinking"}}
        parts = (("request", request), ("response", response))
        inside = "".join(f'<div>{name}</div><pre style="{_PRE}">{escape(_json(v), LONGEST)}</pre>' for name, v in parts)
        found[i] = f'<details style="opacity:.8"><summary>raw</summary>{inside}</details>'
        since = i
    return dict(list(found.items())[-MOST_RAW:])


def _sent(said: Said) -> Mapping[str, Any]:
    """A message, with what is long in its images and files cut."""
    content = said.message.get("content")
    if not isinstance(content, list):
        return said.message
    text = json.dumps(content, ensure_ascii=False, default=repr)
    short = re.sub(r"(data:[a-z/+.-]+;base64,[A-Za-z0-9+/]{24})[A-Za-z0-9+/=]+", r"\1...", text)
    return {**said.message, "content": json.loads(short)}


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=repr)


def _text(said: Said) -> str:
    return escape(said.text, LONGEST)


def _pretty(arguments: str) -> str:
    try:
        return json.dumps(json.loads(arguments), indent=2, ensure_ascii=False)
    except ValueError:
        return arguments


def markdown(text: str) -> str:
    """What a model wrote, as HTML in which nothing runs and nothing is fetched."""
    rendered: str = _renderer().render(clean(text, LONGEST))
    return f'<div class="fb-markdown">{rendered}</div>'


@functools.cache
def _renderer() -> Any:
    from markdown_it import MarkdownIt  # comes with rich

    return MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
