"""`import innerloop`: what it offers, and what it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import innerloop as il


def test_nothing_is_imported_before_it_is_used() -> None:
    program = """if True:
        import sys
        import innerloop
        print(*sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "innerloop" in loaded
    assert not loaded & {"innerloop.harness", "innerloop.engines", "numpy", "pyarrow", "pydantic", "rich", "argparse"}


def test_all_names_are_there() -> None:
    assert set(il.__all__) <= set(dir(il))
    for name in il.__all__:
        assert getattr(il, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = il.nothing  # type: ignore[attr-defined]
