"""The site builds without a warning and reads without a network."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.structure.tree import ROOT

FETCHED = re.compile(
    r"""<(?:script|img|iframe|source|audio|video|embed|object)\b[^>]*?\b(?:src|srcset|data)\s*=\s*["']?\s*(?:https?:)?//[^\s"'>]+"""
    r"""|<link\b(?![^>]*\brel=["']?(?:canonical|alternate|prev|next|license|edit)\b)[^>]*\bhref\s*=\s*["']?(?:https?:)?//[^\s"'>]+"""
    r"""|@import\s+(?:url\()?["']?(?:https?:)?//[^\s"')]+"""
    r"""|url\(\s*["']?(?:https?:)?//[^\s"')]+""",
    re.IGNORECASE,
)
"""What a browser would fetch from elsewhere by itself; a link that a reader follows is none of that."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built pages."""
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(target)]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


def test_the_site_has_its_pages(site: Path) -> None:
    """A strict build of nothing would pass as well."""
    built = {path.relative_to(site).as_posix() for path in site.rglob("*.html")}
    assert {"index.html", "tutorial.html", "reference/core.html"} <= built
    assert "backendkit.core.operation.Operation" in (site / "reference" / "core.html").read_text()


def test_the_site_fetches_nothing_from_elsewhere(site: Path) -> None:
    """Pages, styles and scripts come with the site."""
    found = [
        f"{path.relative_to(site)}: {match[0]}"
        for path in sorted(site.rglob("*"))
        if path.suffix in {".html", ".css"}
        for match in FETCHED.finditer(path.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        '<script src="https://cdn.example/x.js">',
        "<script async src=//cdn.example/x.js>",
        '<link rel="stylesheet" href="https://fonts.example/css">',
        '<link href="https://fonts.example" rel="preconnect">',
        '<img alt="" src="http://badge.example/a.svg">',
        '@import "https://fonts.example/css";',
        "body { background: url(https://a.example/b.png) }",
    ],
)
def test_the_check_sees_what_is_fetched(text: str) -> None:
    """One example per way a page can fetch something."""
    assert FETCHED.search(text)


@pytest.mark.parametrize(
    "text",
    [
        '<a href="https://example.org">',
        '<link rel="canonical" href="https://example.org">',
        "url(data:image/svg+xml;base64,PHN2Zy8+)",
        '<script src="assets/x.js">',
        '<svg xmlns="http://www.w3.org/2000/svg">',
    ],
)
def test_the_check_lets_links_pass(text: str) -> None:
    """A reader may follow a link; nothing is fetched until then."""
    assert FETCHED.search(text) is None
