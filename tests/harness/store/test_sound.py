"""What no run can have recorded is refused in one line, and takes no memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from innerloop.engines.worker.trace import LAYOUT
from innerloop.harness.cli.errors import Refused
from innerloop.harness.store.sound import unsound
from innerloop.harness.store.tables import read_tables
from tests.harness.conftest import offline_run, write_raw


def test_a_whole_run_is_sound() -> None:
    made = offline_run()
    assert unsound(made["steps"], made["tokens"], made["requests"]) is None
    assert unsound(*(np.empty(0, LAYOUT[name]) for name in ("steps", "tokens", "requests"))) is None


@pytest.mark.parametrize(
    ("table", "column", "value", "said"),
    [
        ("steps", "start_ns", 2**63 - 1, "table steps: a time of more than a hundred years in start_ns"),
        ("tokens", "time_ns", -(2**63), "table tokens: a time"),
        ("requests", "state", 4, "table requests: unknown state"),
        ("requests", "state", -1, "table requests: unknown state"),
        ("requests", "user", 2**31 - 1, "table requests: unknown user"),
        ("requests", "asked_tokens", -5, "negative number of asked_tokens"),
        ("tokens", "count", -1, "negative number of tokens"),
        ("tokens", "count", 2**31 - 1, "more tokens than its 400 arrivals can account for"),
    ],
)
def test_what_no_run_records_is_refused(
    run_folder: Callable[..., Path], table: str, column: str, value: int, said: str
) -> None:
    folder, rows = run_folder(), offline_run()[table]
    rows[column][3] = value
    write_raw(folder / "trace" / "measure" / f"{table}.bin", rows)
    with pytest.raises(Refused, match=f"are damaged: .*{said}"):
        read_tables(folder)
