"""What README and the pages show does what they say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs import pages, settings
from tests.structure.tree import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_page_runs(page: Path, tmp_path: Path) -> None:
    """A reader copies what stands there."""
    ran = pages.run(page.read_text(encoding="utf-8"), tmp_path)
    shows = "\n```python" in page.read_text(encoding="utf-8")
    assert ran or not shows, "a page with code of which nothing runs"


@pytest.mark.parametrize("name", ["README.md", "docs/tutorial.md"])
def test_the_first_pages_show_code_that_runs(name: str, tmp_path: Path) -> None:
    """The pages that readers meet first are made of code."""
    assert pages.run((ROOT / name).read_text(encoding="utf-8"), tmp_path) > 0


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("a\n\n```python\n1 / 0\n```\n", 'page.py", line 4'),
        ("```python\nx = 1\n```\nthen\n```python\nassert x == 2\n```\n", "AssertionError"),
        ("```python\nimport warnings; warnings.warn('old', DeprecationWarning)\n```\n", "old"),
        ("```python\nprint(1)\n```\n```text\n2\n```\n", "the page shows"),
        ("```console\n$ echo a\nb\n```\n", "the page shows"),
        ("```console\n$ exit 3\n```\n", "exited with 3"),
        ("<!-- no-run: -->\n```python\n1 / 0\n```\n", "needs a reason"),
        ("```pyhton\n1\n```\n", "a block of kind 'pyhton'"),
    ],
)
def test_a_wrong_page_is_found(page: str, said: str, tmp_path: Path) -> None:
    """Each way a page can be wrong, on a page made wrong that way."""
    with pytest.raises(pages.WrongPage) as raised:
        pages.run(page, tmp_path)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("page", "ran"),
    [
        ("```python\nx = 1\n```\n```python\nprint(x)\n```\n```text\n1\n```\n", 2),
        ("```python\nprint('a\\nb\\nc')\n```\n```text\na\n...\nc\n```\n", 1),
        ("```console\n$ echo a\na\n$ echo b\nb\n```\n", 1),
        ("<!-- no-run: needs a network -->\n```python\n1 / 0\n```\n", 0),
        ("- item\n\n    ```python\n    assert True\n    ```\n", 1),
    ],
)
def test_a_right_page_runs(page: str, ran: int, tmp_path: Path) -> None:
    """One namespace a page, outputs compared, excused blocks left out, indented blocks as well."""
    assert pages.run(page, tmp_path) == ran


def test_the_page_of_settings_says_what_is_declared() -> None:
    """`python -m tests.docs.settings --write` brings it up to date."""
    assert settings.PAGE.read_text(encoding="utf-8") == settings.page()


def test_every_test_that_a_page_names_is_there() -> None:
    """A test that is renamed, or goes, takes its line along."""
    page = (ROOT / "docs" / "explanation" / "pitfalls.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:e2e/)?test_\w+)::(test_\w+)`", page)
    assert len(named) > 40
    for module, name in named:
        folder = "" if module.startswith("e2e/") else "unit/web/"
        source = (ROOT / "tests" / f"{folder}{module}.py").read_text(encoding="utf-8")
        assert f"\ndef {name}(" in source, (module, name)
    lines = [line for line in page.splitlines() if line.startswith("| ")]
    assert all("::" in line or line.startswith("| what goes wrong") for line in lines)
