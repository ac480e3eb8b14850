"""The catalogue as one HTML file: opens from a disk, offline, in the reader's colours, with a screen reader, on paper."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html import escape

from backendkit.errors.catalogue import Catalogue, Entry, phrase
from backendkit.errors.templates import fields

STYLE = """
:root{color-scheme:light dark;--paper:#fbfbfd;--card:#fff;--ink:#1b1d29;--soft:#5b6075;--line:#e3e5ee;--link:#3d4cc4;
--code:#f3f4f9;--client:#9a5b00;--client-bg:#fff3dc;--server:#b3261e;--server-bg:#fdeaea;--again:#17693a;--again-bg:#e4f5ea}
@media(prefers-color-scheme:dark){:root{--paper:#12131a;--card:#1a1c26;--ink:#e8e9f1;--soft:#a2a7bd;--line:#2c2f3f;
--link:#a3adff;--code:#232634;--client:#f3c26b;--client-bg:#382a10;--server:#ffa59d;--server-bg:#3d1c1c;
--again:#7fd8a0;--again-bg:#14351f}}
*{box-sizing:border-box}html{scroll-padding-top:1.5rem}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.6 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
a{color:var(--link)}a:focus-visible,summary:focus-visible{outline:2px solid var(--link);outline-offset:3px;border-radius:3px}
code,pre{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;font-size:.875em}
.skip{position:absolute;left:-99rem}.skip:focus{left:1rem;top:1rem;background:var(--card);padding:.5rem 1rem;z-index:1}
.all{display:grid;grid-template-columns:17rem minmax(0,48rem);gap:3rem;max-width:72rem;margin:0 auto;padding:0 1.5rem}
nav{position:sticky;top:0;align-self:start;max-height:100vh;overflow:auto;scrollbar-width:thin;
scrollbar-color:var(--line) transparent;padding:3rem 0 2rem;font-size:.875rem}
nav h2{font-size:.8125rem;letter-spacing:.02em;color:var(--soft);margin:1.25rem 0 .25rem;font-weight:600}
nav ul{list-style:none;margin:0;padding:0}nav a{display:block;padding:.15rem 0;text-decoration:none;overflow-wrap:anywhere}
nav a:hover{text-decoration:underline}
main{padding:3rem 0 6rem}h1{font-size:2.25rem;line-height:1.2;letter-spacing:-.02em;margin:0 0 .75rem;text-wrap:balance}
.lead{color:var(--soft);margin:0 0 2.5rem;max-width:42rem}
section>h2{font-size:1.125rem;margin:3rem 0 1rem;padding-bottom:.5rem;border-bottom:1px solid var(--line)}
section>h2 small{font-weight:400;color:var(--soft);font-size:1em;margin:0 .75em 0 .35em}
section>h2 .tag{vertical-align:.1em}
article{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:1.25rem 1.5rem;margin:0 0 1rem}
article:target{border-color:var(--link);box-shadow:0 0 0 1px var(--link)}article>:last-child{margin-bottom:0}
header{display:flex;flex-wrap:wrap;align-items:baseline;gap:.5rem .75rem}
h3{margin:0;font-size:1rem;font-weight:600;overflow-wrap:anywhere}h3 a{color:inherit;text-decoration:none}
h3 a:hover{color:var(--link);text-decoration:underline}h3 code{font-size:1em}
.tag{font-size:.75rem;font-weight:600;border-radius:99px;padding:.1rem .65rem;white-space:nowrap}
.client{color:var(--client);background:var(--client-bg)}.server{color:var(--server);background:var(--server-bg)}
.again{color:var(--again);background:var(--again-bg)}
.says{font-size:1.0625rem;margin:.75rem 0 .25rem;overflow-wrap:anywhere}.says var{font-style:normal;background:var(--code);
border-radius:5px;padding:.05em .35em;font-family:ui-monospace,Menlo,Consolas,"DejaVu Sans Mono",monospace;font-size:.875em}
article p.why{color:var(--soft);margin:.25rem 0 0;max-width:40rem}
details{margin-top:.75rem}summary{cursor:pointer;color:var(--soft);font-size:.875rem;width:max-content}
pre{background:var(--code);border-radius:8px;padding:.875rem 1rem;overflow:auto;margin:.5rem 0 0;line-height:1.5}
@media(max-width:60rem){.all{display:block}nav{display:none}main{padding-top:2rem}}
@media print{nav,details,.skip{display:none}.all{display:block}article{break-inside:avoid}}
"""
"""The page's only stylesheet; every pair of colours has a contrast of 4.5 at least, in both schemes."""

LEAD = (
    "What this service answers when something goes wrong. The code is for programs and never changes; "
    "the message is for people, and may."
)


def page(catalogue: Catalogue, title: str) -> str:
    """Return the catalogue as an HTML document; whatever classes and titles say is escaped."""
    return "\n".join(_page(catalogue, title)) + "\n"


def _page(catalogue: Catalogue, title: str) -> Iterator[str]:
    name = escape(title)
    yield '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f'<meta name="color-scheme" content="light dark">\n<title>{name}</title>'
    yield f"<style>{STYLE}</style>\n</head>\n<body>"
    yield '<a class="skip" href="#list">Skip to the errors</a>\n<div class="all">'
    yield '<nav aria-label="Errors by status">'
    for status, entries in catalogue.by_status():
        links = "".join(f'<li><a href="#{e.code}"><code>{e.code}</code></a></li>' for e in entries)
        yield f"<div><h2>{status} {escape(phrase(status))}</h2><ul>{links}</ul></div>"
    yield f'</nav>\n<main id="list">\n<h1>{name}</h1>\n<p class="lead">{LEAD}</p>'
    for status, entries in catalogue.by_status():
        yield f'<section aria-labelledby="status-{status}">'
        side = "server" if status >= 500 else "client"
        tag = f'<span class="tag {side}">{side} error</span>'
        words = escape(phrase(status))
        yield f'<h2 id="status-{status}">{status}<small>{words}</small>{tag}</h2>'
        for entry in entries:
            yield from _article(entry)
        yield "</section>"
    yield "</main>\n</div>\n</body>\n</html>"


def _article(entry: Entry) -> Iterator[str]:
    code = entry.code
    yield f'<article id="{code}" aria-labelledby="{code}-name">\n<header>'
    yield f'<h3 id="{code}-name"><a href="#{code}"><code>{code}</code></a></h3>'
    if entry.retryable:
        yield '<span class="tag again">may be retried</span>'
    yield f'</header>\n<p class="says">{_highlighted(entry.message)}</p>'
    for paragraph in filter(None, entry.description.split("\n\n")):
        if paragraph.rstrip(".") == entry.message:
            continue  # said just above
        yield f'<p class="why">{_spans(paragraph)}</p>'
    example = escape(_example(entry), quote=False)
    yield f'<details><summary>Example</summary><pre tabindex="0">{example}</pre></details>'
    yield "</article>"


def _highlighted(message: str) -> str:
    """Mark the parameters in a message."""
    text = escape(message)
    for name in fields(message):
        text = text.replace(f"{{{name}}}", f"<var>{name}</var>")
    return text


def _spans(paragraph: str) -> str:
    """Return a docstring's paragraph, in which backticks mean code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(" ".join(paragraph.split())))


def _example(entry: Entry) -> str:
    error: dict[str, object] = {
        "code": entry.code,
        "message": entry.message,
        "details": [],
        "requestId": "0f8fad5bd9cb469fa16570867728950e",
        "timestamp": "2025-11-19T02:48:00Z",
    }
    return json.dumps({"error": error}, indent=2, ensure_ascii=False)
