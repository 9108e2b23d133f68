"""What steps put out, as HTML and as text: nothing of it runs, and nothing of it asks for anything."""

from __future__ import annotations

import base64
import re
from datetime import timedelta
from uuid import UUID

import pytest
from playwright.sync_api import Browser, Route

from flowbook.plan.outputs import Kind, Output, displayed
from flowbook.show.inspected import output_told
from flowbook.show.outputs import outputs_html, outputs_plain
from flowbook.show.sanitised import safe_html
from tests.browser.conftest import chromium
from tests.unit.show.samples import HOSTILE, NOW

__all__ = ["chromium"]

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WILD = (
    *HOSTILE,
    "<img src=http://evil.test/1.png>",
    "<img src=//evil.test/2.png srcset='http://evil.test/3.png 2x'>",
    "<style>b{background:url(http://evil.test/4.png)}</style><b>x</b>",
    "<b style='background-image:url(http://evil.test/5.png)'>x</b>",
    "<b style=\"background-color:red;list-style:url('http://evil.test/6.png')\">x</b>",
    "<b style='font-family:x;width:image-set(url(http://evil.test/7.png) 1x)'>x</b>",
    "<link rel=stylesheet href=http://evil.test/8.css><link rel=preconnect href=http://evil.test>",
    "<meta http-equiv=refresh content='0;url=http://evil.test/9'>",
    "<iframe src=http://evil.test/10></iframe><object data=http://evil.test/11></object><embed src=http://evil.test/12>",
    "<video src=http://evil.test/13 autoplay poster=http://evil.test/14></video><audio src=http://evil.test/15></audio>",
    "<form action=http://evil.test/16><input type=image src=http://evil.test/17><button>x</button></form>",
    "<svg><image href=http://evil.test/18 /><use href=http://evil.test/19#x /><script>window.fbHit=1</script></svg>",
    "<table background=http://evil.test/20><tr><td background=http://evil.test/21>x</td></tr></table>",
    "<body background=http://evil.test/22 onload=window.fbHit=1>",
    "<math><mtext><script>window.fbHit=1</script></mtext></math><base href=http://evil.test/>",
    "<a href='data:text/html,<script>alert(1)</script>' ping=http://evil.test/23>x</a>",
    "<details open ontoggle=window.fbHit=1>x</details><div class='fb-still jp-Cell lm-Widget mine'>x</div>",
    "<noscript><p title='</noscript><img src=x onerror=window.fbHit=1>'>",
    "<div style='position:fixed;inset:0;z-index:9'>over the page</div>",
    "<img src='data:image/svg+xml;base64," + base64.b64encode(b"<svg onload='window.fbHit=1'/>").decode() + "'>",
    "<img src='data:text/html,<script>window.fbHit=1</script>'>",
)


def put(
    payload: str | bytes, kind: Kind = "stdout", path: str = "a#1", *, attempt: int = 1, n: int = 0, epoch: int = 1
) -> Output:
    """One output."""
    data = payload.encode("utf-8", "replace") if isinstance(payload, str) else payload
    return Output(UUID(int=1), path, attempt, (epoch << 32) + n, kind, data, NOW + timedelta(seconds=n))


def show(n: int = 0, **forms: object) -> Output:
    """A display; ``html="..."`` is its text/html."""
    mimes = {"html": "text/html", "plain": "text/plain", "png": "image/png", "svg": "image/svg+xml"}
    return put(displayed({mimes[k]: v for k, v in forms.items()}, {}), "display", n=n)


def everything() -> str:
    """All hostile texts, as text, as HTML, as SVG, as the name of a picture and as a path."""
    outputs = []
    for n, text in enumerate(WILD):
        text = text.encode("utf-8", "replace").decode()
        outputs += [
            put(text, "stdout", text[:80], n=5 * n), put(text, "stderr", n=5 * n + 1), show(5 * n + 2, html=text),
            show(5 * n + 3, svg=f"<svg xmlns='http://www.w3.org/2000/svg'>{text}</svg>", plain=text),
            show(5 * n + 4, png=text, plain=text),
        ]  # fmt: skip
    return outputs_html(outputs)


def test_what_steps_display_runs_nothing_and_asks_for_nothing(chromium: Browser) -> None:
    """In a page with a network and without a policy of its own, opened by a real browser, hovered over and folded."""
    page = chromium.new_page()
    asked: list[str] = []

    def refuse(route: Route) -> None:
        asked.append(route.request.url)
        route.abort()

    page.route("**/*", refuse)
    page.on("dialog", lambda dialog: asked.append(dialog.message))
    told = [output_told(show(html=text.encode("utf-8", "replace").decode())) for text in WILD]
    framed = "".join(t["bundle"]["text/html"] for t in told)
    page.set_content(f"<body><p id=fb>ours</p>{everything()}{framed}</body>", wait_until="load")
    page.wait_for_timeout(300)
    assert asked == []
    assert page.evaluate("window.fbHit") is None
    tags = "script,iframe,object,embed,form,input,button,svg,link,meta,base,style,video,audio"
    assert page.locator(f"body :is({tags})").count() == 0
    assert page.evaluate(
        "[...document.querySelectorAll('body *')].flatMap((e) => [...e.attributes])"
        ".filter((a) => /^on/.test(a.name) || /^\\s*javascript:/i.test(a.value)).length"
    ) == 0  # fmt: skip
    assert page.evaluate("[...document.querySelectorAll('body *')].filter((e) => "
                         "['fixed', 'absolute'].includes(getComputedStyle(e).position)).length") == 0  # fmt: skip
    page.close()


@pytest.mark.parametrize("text", WILD)
def test_safe_html_lets_nothing_through_that_is_not_on_its_list(text: str) -> None:
    """Looked at as text, for those without a browser."""
    safe = safe_html(text.encode("utf-8", "replace").decode())
    assert not re.search(r"<(script|style|iframe|object|embed|form|svg|link|meta|base|video)", safe, re.IGNORECASE)
    assert not re.search(r"<[^>]+\s(on\w+|srcset|ping|background|poster)=", safe)
    assert not re.search(r"<[^>]+(javascript:|url\()", safe)
    assert not re.search(r"<img[^>]+src=\"(?!data:image/)", safe)


def test_a_table_keeps_its_form() -> None:
    """What pandas makes is shown as it is, less its style sheet."""
    table = (
        "<div><style scoped>.dataframe td{}</style><table border='1' class='dataframe fb-still'><thead><tr style="
        "'text-align: right;'><th></th><th>a</th></tr></thead><tbody><tr><th>0</th><td>1</td></tr></tbody></table>"
        "</div>"
    )
    assert outputs_html([show(html=table, plain="   a\n0  1")]).count("<td>1</td>") == 1
    safe = safe_html(table)
    assert 'class="dataframe"' in safe
    assert "text-align" in safe
    assert "scoped" not in safe


def test_each_attempt_is_told_apart_and_texts_are_joined() -> None:
    """In the order in which attempts began; pieces of one kind read as one, colours and progress bars as their end."""
    outputs = [
        put("one ", n=0), put("b", "stdout", "b#1", n=0), put("\x1b[31mtwo\x1b[0m\n10%\r20%\r30%\n", n=1),
        put("!", "stderr", n=2), put("again", attempt=2, n=0), put("replayed", attempt=2, n=0, epoch=2),
    ]  # fmt: skip
    assert outputs_plain(outputs).splitlines() == [
        "a#1  stdout  one two", "a#1  stdout  30%", "a#1  stderr  !", "b#1  stdout  b",
        "a#1 (attempt 2)  stdout  again", "a#1 (attempt 2, once more)  stdout  replayed",
    ]  # fmt: skip
    html = outputs_html(outputs)
    assert html.index("a#1</b>") < html.index("b#1</b>") < html.index("a#1 (attempt 2)</b>")
    assert ">one two\n30%</pre>" in html
    assert outputs_html([]) == ""
    assert outputs_plain([]) == "nothing was printed"


def test_what_is_too_long_for_a_page_is_cut_and_says_so() -> None:
    """The first and last lines of a long text, and no picture that would swell the notebook."""
    html = outputs_html([put("\n".join(f"line {n}" for n in range(10_000))), show(1, png="A" * 5_000_000)])
    assert "line 0\n" in html
    assert "line 9999<" in html
    assert "more lines" in html
    assert "a display of 5,000," in html
    assert len(html) < 20_000


def test_a_picture_is_an_image_of_its_own() -> None:
    """PNG and SVG, with their plain form as what is read aloud; the picture is taken before the HTML."""
    html = outputs_html([show(png=PIXEL, html="<b>no</b>", plain='a "plot"'), show(1, svg="<svg/>")])
    assert f'src="data:image/png;base64,{PIXEL}" alt="a &quot;plot&quot;"' in html
    assert 'src="data:image/svg+xml;base64,' in html
    assert "<b>no</b>" not in html
