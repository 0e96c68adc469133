"""What is written can be read again."""

from __future__ import annotations

from pathlib import Path

import pytest

from innerloop.harness.store.documents import write_document
from innerloop.harness.store.versions import read_document


@pytest.mark.parametrize(
    ("number", "kept"),
    [(2**64, 2**64), (-(2**64), -(2**64)), (10**30, 1e30), (-(10**30), -1e30), (10**400, None), (True, True)],
)
def test_a_number_of_more_than_64_bits_is_kept_as_a_fraction(tmp_path: Path, number: int, kept: float | None) -> None:
    write_document(tmp_path / "x.json", {"number": number})
    read = read_document(tmp_path / "x.json")["number"]
    assert (read, type(read)) == (kept, type(kept))
