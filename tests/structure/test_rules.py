"""The tree keeps the house's rules, and each rule bites."""

from __future__ import annotations

from pathlib import Path

import pytest

import backendkit
from tests.structure import floors, lua, shape, state
from tests.structure.tree import ROOT, SRC, Rule

RULES: dict[str, Rule] = {
    "floors": floors.floors,
    "homes": floors.homes,
    "pure decisions": floors.pure,
    "module-level state": state.state,
    "patched classes": state.patches,
    "sources": state.sources,
    "sizes": shape.sizes,
    "docstrings": shape.docstrings,
    "lua": lua.lua,
}

LONG = "\n".join(["def f() -> None:", '    """Do."""', *["    print()"] * 41, ""])

BREACHES = [
    ("floors", "core/a.py", "import backendkit.stores.memory", "imports upward"),
    ("floors", "core/a.py", "def f():\n    from backendkit.cache import Cache", "imports upward"),
    ("floors", "core/a.py", "if TYPE_CHECKING:\n    from backendkit import kit", "imports upward"),
    ("floors", "stores/redis/a.py", "from ...resilience.face import Breaker", "imports upward"),
    ("floors", "cache/a.py", "from backendkit.resilience import Breaker", "imports sideways"),
    ("floors", "cache/a.py", "from backendkit.errors import NotFound", "imports sideways"),
    ("floors", "cache/a.py", "import_module('backendkit.tokens')", "imports sideways"),
    ("floors", "http/a.py", "from backendkit.kit import Kit", "imports sideways"),
    ("floors", "kit.py", "from backendkit.http import headers", "imports sideways"),
    ("floors", "fastapi/a.py", "from backendkit.flask import install", "imports sideways"),
    ("floors", "ratelimit/a.py", "from backendkit.fastapi import install", "imports upward"),
    ("floors", "__init__.py", "from backendkit.kit import Kit", "front door"),
    ("floors", "utils.py", "", "no room called 'utils'"),
    ("homes", "core/a.py", "import pydantic", "pydantic belongs to"),
    ("homes", "stores/memory.py", "from redis import Redis", "redis belongs to"),
    ("homes", "cache/a.py", "import redis.asyncio", "redis belongs to"),
    ("homes", "http/a.py", "from starlette.requests import Request", "starlette belongs to"),
    ("homes", "kit.py", "import flask", "flask belongs to"),
    ("homes", "resilience/a.py", "import argon2.low_level", "argon2 belongs to"),
    ("homes", "ratelimit/a.py", "importlib.import_module('structlog')", "structlog belongs to"),
    ("homes", "cache/a.py", "import left_pad", "left_pad is not a library"),
    ("pure decisions", "cache/decide.py", "import asyncio", "a pure decision imports asyncio"),
    ("pure decisions", "cache/decide.py", "from backendkit.core.clock import Clock", "core.clock"),
    (
        "pure decisions",
        "cache/decide/l1.py",
        "import threading",
        "a pure decision imports threading",
    ),
    ("module-level state", "core/a.py", "seen = []", "state: seen"),
    ("module-level state", "core/a.py", "_seen: dict[str, int] = {}", "state: _seen"),
    (
        "module-level state",
        "core/a.py",
        "try:\n    x = weakref.WeakSet()\nfinally: pass",
        "state: x",
    ),
    ("module-level state", "core/a.py", "_lock = threading.Lock()", "state: _lock"),
    ("module-level state", "core/a.py", "cache = dict[str, int]()", "state: cache"),
    ("module-level state", "core/a.py", "T = {}\ndef f():\n    T['a'] = 1", "T is changed"),
    ("module-level state", "core/a.py", "T = []\ndef f():\n    T.append(1)", "T is changed"),
    ("module-level state", "core/a.py", "n = 0\ndef f():\n    global n", "global n"),
    ("patched classes", "core/a.py", "import logging\nlogging.raiseExceptions = False", "patches"),
    (
        "patched classes",
        "flask/a.py",
        "from flask import Flask\nFlask.run = None",
        "patches Flask.run",
    ),
    (
        "patched classes",
        "flask/a.py",
        "import flask\nsetattr(flask.Flask, 'run', 1)",
        "patches flask",
    ),
    ("sources", "cache/a.py", "import time", "reads time"),
    ("sources", "cache/a.py", "from time import monotonic as m", "reads time"),
    ("sources", "resilience/a.py", "import random", "reads random"),
    ("sources", "kit.py", "import os as o\nx = o.environ['A']", "reads os.environ"),
    ("sources", "kit.py", "from os import getenv", "reads os.getenv"),
    ("sources", "tokens/a.py", "import datetime\ndatetime.datetime.now()", "reads datetime"),
    ("sources", "tokens/a.py", "from datetime import datetime as d\nd.utcnow()", "reads datetime"),
    ("sizes", "core/a.py", "\n" * 401, "401 lines"),
    ("sizes", "core/a.py", LONG, "f has 41 lines"),
    ("docstrings", "core/a.py", "x = 1", "module has no docstring"),
    (
        "docstrings",
        "core/a.py",
        '"""M."""\nclass C:\n    """C."""\n    async def m(self): ...',
        "m has no",
    ),
    ("docstrings", "core/a.py", '"""M."""\nif X:\n    def f(): ...', "f has no docstring"),
    ("lua", "cache/a.py", "LUA = \"return 'a' .. x\"", "`..`"),
    ("lua", "cache/a.py", "GET_LUA = 'return tostring(1)'", "tostring"),
    ("lua", "cache/a.py", "Script('a', lua='return math.floor(1.5)', fold=f)", "math.floor"),
    ("lua", "cache/a.py", "_LUA = \"return string.format('%d', 1)\"", "%.0f only"),
    ("lua", "cache/a.py", "_LUA = \"return string.format('a%s', 1)\"", "%.0f only"),
    ("lua", "cache/a.py", "LUA = 'local a = 1\\nb = 2'", "b is a global"),
    ("lua", "cache/a.py", "LUA = 'local a\\nif a then c, d = 1, 2 end'", "d is a global"),
    ("lua", "cache/a.py", "LUA = 'function f() return 1 end'", "f is a global"),
]

ALLOWED = [
    (
        "floors",
        "kit.py",
        "from backendkit.settings import Settings\nfrom backendkit.cache import Cache",
    ),
    ("floors", "__init__.py", "if TYPE_CHECKING:\n    from backendkit.kit import Kit as Kit"),
    ("floors", "cache/face.py", "from .decide import f\nfrom backendkit.core import keys"),
    ("homes", "stores/redis/lane.py", "import redis"),
    ("homes", "stores/connect.py", "import redis, urllib.parse"),
    ("homes", "logging/a.py", "import logging\nfrom backendkit.logging.b import c"),
    ("module-level state", "core/a.py", "CODES = {1: 2}\nmark = object()\n__all__ = ['a']"),
    ("module-level state", "core/a.py", "def f():\n    seen = []\n    seen.append(1)"),
    ("module-level state", "core/fork.py", "_members = weakref.WeakSet()"),
    ("patched classes", "core/a.py", "class C:\n    def f(self):\n        self.x = 1"),
    ("sources", "core/clock.py", "import time\ntime.monotonic_ns()"),
    ("sources", "settings.py", "import os\nos.environ"),
    ("sources", "cache/a.py", "from backendkit.core import time_us\nimport os\nos.fsync(1)"),
    ("sizes", "core/a.py", "\n" * 400),
    ("docstrings", "core/a.py", '"""M."""\ndef _f(): ...\nclass _C:\n    def g(self): ...'),
    (
        "lua",
        "cache/a.py",
        "LUA = \"local a, b = 1 -- c = 2 .. 3\\na = b\\nreturn {x = '..', ...}\"",
    ),
    (
        "lua",
        "cache/a.py",
        "LUA = \"for i, v in ipairs(KEYS) do v = string.format('%.0f:%%', i) end\"",
    ),
    (
        "lua",
        "cache/a.py",
        "LUA = 'local t = {}\\nt.a = 1\\nt[1] = 2\\nlocal function f(x) x = 1 end'",
    ),
    ("lua", "cache/a.py", "LUA = 'if a == 1 or b >= 2 or c ~= 3 then return 1 end'"),
]


def test_the_walk_sees_the_whole_package() -> None:
    """A rule that walks an empty folder holds for nothing."""
    assert (SRC / "__init__.py").is_file()
    assert (SRC / "core").is_dir()


@pytest.mark.parametrize("name", RULES)
def test_the_tree_keeps_the_rule(name: str) -> None:
    """Each breach is one line that names file, line and what is wrong."""
    assert RULES[name](SRC) == []


@pytest.mark.parametrize(("name", "path", "text", "said"), BREACHES)
def test_the_rule_bites(tmp_path: Path, name: str, path: str, text: str, said: str) -> None:
    """A rule that finds nothing in a tree made to break it would find nothing in ours."""
    plant(tmp_path, path, text)
    assert any(said in breach for breach in RULES[name](tmp_path)), RULES[name](tmp_path)


@pytest.mark.parametrize(("name", "path", "text"), ALLOWED)
def test_the_rule_lets_pass(tmp_path: Path, name: str, path: str, text: str) -> None:
    """A rule with false alarms would soon be switched off."""
    plant(tmp_path, path, text)
    assert RULES[name](tmp_path) == []


@pytest.mark.parametrize("folder", ["unit", "contract"])
def test_no_real_sleep(folder: str) -> None:
    """Suites that run on every save take the manual clock."""
    assert shape.sleeps(ROOT / "tests" / folder) == []


@pytest.mark.parametrize(
    ("text", "breaches"),
    [
        ("import time\ntime.sleep(0.1)", 1),
        ("from asyncio import sleep as nap\nnap(1)", 1),
        ("asyncio.sleep(delay)", 1),
        ("asyncio.sleep(0)\nclock.sleep(5)", 0),
    ],
)
def test_the_sleep_rule_bites(tmp_path: Path, text: str, breaches: int) -> None:
    """Only a wait that takes real time counts; a yield to the loop does not."""
    plant(tmp_path, "test_a.py", text)
    assert len(shape.sleeps(tmp_path)) == breaches


def test_scripts_made_by_code_are_linted_as_well() -> None:
    """Text put together at import time cannot be read in the source; the Script it became can."""
    scripts = lua.scripts(backendkit)
    assert [
        f"{name}: {fault}" for name, text in scripts.items() for fault in lua.faults(text)
    ] == []
    assert bool(scripts) == any(lua.texts(SRC)), (
        "the source spells scripts that importing did not find"
    )


def plant(root: Path, path: str, text: str) -> None:
    """Write one file of a tiny tree."""
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
