"""The checker itself: every kind of thing that an adapter touches, there and not there."""

from __future__ import annotations

import json

import pytest

from tests.engines.contracts.source import Table, Tree, fingerprint, missing, table

FILES = {
    "engine/__init__.py": "from .core import Core as Core\nimport os\n__version__ = '1'\n",
    "engine/core.py": """
from typing import NamedTuple
from .base import Base

try:
    import fast
except ImportError:
    fast = None

class Core(Base):
    size: int = 3

    def __init__(self, config, *, depth=1, **rest):
        self.queue = []
        self.a, self.b = 1, 2

    @property
    def usage(self):
        return 0

    def step(self, batch, timeout=None):
        '''One step.'''
        for item in batch:
            self.run(item,
                     timeout=timeout)

class Config:
    dtype: str
    blocks: int = 0

def load(path, *more, seed):
    return path
""",
    "engine/base.py": "class Base:\n    def close(self, wait): ...\n",
}


@pytest.fixture
def engine(tmp_path):
    def write(**changes):
        for name, text in {**FILES, **changes}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return Tree(tmp_path)

    return write


THERE = [
    "engine",
    "engine:__version__",
    "engine:os",
    "engine.core:fast",
    "engine:Core.step(batch, timeout)",
    "engine.core:Core(config, depth)",
    "engine.core:Core.queue",
    "engine.core:Core.b",
    "engine.core:Core.usage",
    "engine.core:Core.size",
    "engine:Core.close(wait)",
    "engine.core:Config(dtype, blocks)",
    "engine.core:load(path, seed)",
]
NOT_THERE = [
    ("engine.gone", "no module engine.gone"),
    ("engine:Engine", "engine has no Engine"),
    ("engine.core:Core.stop", "Core has no stop"),
    ("engine.core:Core.step(batches)", "no parameter batches"),
    ("engine:Core.close(waits)", "no parameter waits"),
    ("engine.core:Core(rest)", "no parameter rest"),
    ("engine.core:Config(dtype, pages)", "no parameter pages"),
    ("engine.core:load(more)", "no parameter more"),
    ("engine.core:Core.queue(n)", "takes no parameters"),
    ("engine.core:load.x", "no class"),
]


def test_what_is_there_is_found(engine):
    assert missing(THERE, engine()) == []


@pytest.mark.parametrize(("touch", "words"), NOT_THERE)
def test_what_is_not_there_is_named(engine, touch, words):
    (reason,) = missing([touch], engine())
    assert reason.startswith(f"{touch}: ")
    assert words in reason


def test_a_stored_table_says_the_same_as_the_source_that_it_was_made_of(engine, tmp_path):
    content = {"modules": table(THERE + [touch for touch, _ in NOT_THERE], engine())}
    (tmp_path / "table.json").write_text(json.dumps(content))
    stored = Table(tmp_path / "table.json")
    assert missing(THERE, stored) == []
    assert all(missing([touch], stored) for touch, _ in NOT_THERE)


def test_a_fragment_is_found_however_it_is_laid_out(engine):
    source = engine()
    assert missing(["engine:Core.step ~ self.run(item, timeout=timeout)"], source) == []
    (reason,) = missing(["engine:Core.step ~ self.run(item)"], source)
    assert "does not hold self.run(item)" in reason


def test_a_body_that_has_changed_is_found_out_and_its_words_are_not_code(engine):
    node = engine().body("engine.core", "Core.step")
    assert node is not None
    touch = f"engine.core:Core.step # {fingerprint(node)}"
    assert missing([touch], engine()) == []
    said = FILES["engine/core.py"].replace("One step.", "Runs once.")
    assert missing([touch], engine(**{"engine/core.py": said})) == []
    done = FILES["engine/core.py"].replace("for item in batch", "for item in batch[1:]")
    (reason,) = missing([touch], engine(**{"engine/core.py": done}))
    assert "has changed" in reason
