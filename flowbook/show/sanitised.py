"""HTML of users that may stand in a page: what their steps displayed.

Owns: the list of what is let through. Refuses: everything else. A step's table or text keeps its form; nothing of it
runs, and nothing of it makes the page ask for anything: no script, no frame, no form, no link to a style or a picture
that is not in the text itself. A link to the web stays, and is followed only by who clicks it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from flowbook.show.safe import clean

TAGS: Final = frozenset(
    {
        *("a", "abbr", "b", "bdi", "blockquote", "br", "caption", "cite", "code", "col", "colgroup", "dd", "del"),
        *("details", "dfn", "div", "dl", "dt", "em", "figcaption", "figure", "h1", "h2", "h3", "h4", "h5", "h6", "hr"),
        *("i", "img", "ins", "kbd", "li", "mark", "ol", "p", "pre", "q", "rp", "rt", "ruby", "s", "samp", "small"),
        *("span", "strong", "sub", "summary", "sup", "table", "tbody", "td", "tfoot", "th", "thead", "time", "tr"),
        *("tt", "u", "ul", "var", "wbr"),
    }
)
GONE: Final = frozenset({"script", "style", "title", "template", "noscript", "iframe", "object", "svg", "math"})
"""Those whose content goes as well."""
ATTRIBUTES: Final[Mapping[str, frozenset[str]]] = {
    "*": frozenset({"align", "class", "colspan", "dir", "lang", "rowspan", "scope", "style", "title", "valign"}),
    "a": frozenset({"href"}),
    "details": frozenset({"open"}),
    "img": frozenset({"src", "alt", "width", "height"}),
    "ol": frozenset({"start", "type"}),
    "table": frozenset({"border"}),
}
STYLES: Final = frozenset(
    {
        *("background-color", "border-collapse", "border-color", "border-style", "border-width", "color"),
        *("font-family", "font-size", "font-style", "font-weight", "height", "line-height", "max-width", "min-width"),
        *("padding", "padding-bottom", "padding-left", "padding-right", "padding-top"),
        *("text-align", "text-decoration", "vertical-align", "white-space", "width"),
    }
)
"""None that takes an address, and none that could put something over the page (``position``, ``z-index``)."""
MOST: Final = 2_000_000
"""Characters; longer HTML is not shown as such."""

_PICTURE = re.compile(r"data:image/(png|jpeg|gif|webp|svg\+xml)[;,]", re.IGNORECASE)
_ADDRESS = re.compile(r"(url|image|image-set|cross-fade|element|src)\s*\(|\\|@", re.IGNORECASE)
_OURS = re.compile(r"\b(fb|flowbook|jp|lm|jupyter)-\S*")


def safe_html(text: str) -> str:
    """``text`` without anything that could run or ask for something; empty if it is too long for that."""
    import nh3  # only who shows what a step has displayed pays for it

    if len(text) > MOST:
        return ""
    return nh3.clean(
        clean(text),
        tags=set(TAGS),
        clean_content_tags=set(GONE),
        attributes={tag: set(names) for tag, names in ATTRIBUTES.items()},
        attribute_filter=_attribute,
        url_schemes={"http", "https", "mailto", "data"},
        filter_style_properties=set(STYLES),
        link_rel="noopener noreferrer nofollow",
    )


def _attribute(tag: str, name: str, value: str) -> str | None:
    if name == "src":
        return value if _PICTURE.match(value) else None
    if name == "href":
        return value if value.lower().startswith(("http://", "https://", "mailto:")) else None
    if name == "style":
        return None if _ADDRESS.search(value) else value
    if name == "class":  # those of the page around it would take its buttons' looks, or hide it
        return _OURS.sub("", value).strip() or None
    return value
