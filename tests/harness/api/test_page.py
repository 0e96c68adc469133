"""The script of docs/how-to/python.md, run as it stands there, but on the scripted engine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import innerloop as il
from tests.harness.api.conftest import SCRIPTED
from tests.real import ROOT

pytestmark = pytest.mark.slow

PAGE = ROOT / "docs" / "how-to" / "python.md"


def script() -> str:
    [found] = [code for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL) if "duckdb" in code]
    for torch, scripted in (('run(engine="torch"', f"run(engine={str(SCRIPTED)!r}"), ('(engine="torch")', "()")):
        assert torch in found
        found = found.replace(torch, scripted)
    return found


def p99_itl_ms(run: il.Run) -> float:
    """The same figure by the tables, request by request."""
    tokens = run.tokens.to_pydict()
    prefill = dict(zip(run.steps["step"].to_pylist(), run.steps["prefill_positions"].to_pylist(), strict=True))
    last: dict[int, int] = {}
    gaps = []
    for request, time_ns, step in zip(tokens["request"], tokens["time_ns"], tokens["step"], strict=True):
        if request in last and prefill[step] > 0:
            gaps.append(time_ns - last[request])
        last[request] = time_ns
    return float(np.quantile(gaps, 0.99)) / 1e6


def test_its_script_says_p99_itl_of_steps_with_prefill_of_each_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(script(), str(PAGE), "exec"), names)
    printed = capfd.readouterr().out
    runs = list(il.runs())
    assert len(runs) == 2
    assert dict(names["itl"].fetchall()) == {run.result.id: pytest.approx(p99_itl_ms(run)) for run in runs}
    assert str(runs[1].result.throughput.output_tokens_per_s) in printed
    assert [line.split("│")[1].strip() for line in printed.splitlines() if "│" in line][-2:] == ["16", "64"]
