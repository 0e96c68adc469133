"""A plug-in's file that cannot be imported is refused in one line, however it ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from innerloop.harness.cli.errors import Refused
from innerloop.harness.profiles.engines import load_engine


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("raise SystemExit(0)", "cannot be imported: SystemExit: 0"),
        ("raise KeyError('x')", "cannot be imported: KeyError: 'x'"),
        ("def f(:", "cannot be imported: SyntaxError"),
        ("x = 1", "defines no `adapter`"),
    ],
)
def test_a_file_that_is_no_plug_in_is_refused(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "own.py").write_text(text + "\n")
    with pytest.raises(Refused, match=why):
        load_engine(str(tmp_path / "own.py"))
