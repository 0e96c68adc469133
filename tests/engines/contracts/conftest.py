"""An engine's source with one thing in it changed, to show that the contracts notice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engines.contracts.source import Tree


@pytest.fixture
def changed(tmp_path: Path) -> Callable[[Tree, str, str, str], Tree]:
    """changed(source, file, old, new): the same source, but for `new` in place of `old`, which must be there."""

    def make(source: Tree, file: str, old: str, new: str) -> Tree:
        text = (source.folder / file).read_text(encoding="utf-8")
        assert old in text, f"{file} does not hold {old!r}"
        here, there = source.folder, tmp_path
        for part in Path(file).parts:
            for path in here.iterdir():
                if path.name != part:
                    (there / path.name).symlink_to(path)
            here, there = here / part, there / part
            if here.is_dir():
                there.mkdir()
        there.write_text(text.replace(old, new), encoding="utf-8")
        return Tree(tmp_path)

    return make
