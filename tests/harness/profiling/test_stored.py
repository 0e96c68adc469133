"""What a profiling pass left in a run's folder, as a comparison reads it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from innerloop.harness.cli.errors import Refused
from innerloop.harness.profiling.events import FILE
from innerloop.harness.profiling.stored import captured_steps


@pytest.mark.parametrize(
    ("put", "why"),
    [
        (lambda path: path.symlink_to(path.name), "is not a regular file"),
        (lambda path: path.write_bytes(b"PAR1"), "is damaged"),
    ],
)
def test_what_is_no_file_of_events_is_refused_by_name(tmp_path: Path, put: Callable[[Path], object], why: str) -> None:
    folder = tmp_path / "profile-kernels"
    folder.mkdir()
    assert captured_steps(tmp_path) is None
    put(folder / FILE)
    with pytest.raises(Refused, match=f"{FILE} {why}"):
        captured_steps(tmp_path)
