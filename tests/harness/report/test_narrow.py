"""Every report at 40 to 70 columns says what it says on a wide terminal."""

from __future__ import annotations

import contextlib
import io
from collections import Counter

import pytest

from innerloop.harness import compare, runs, show, steps
from innerloop.harness.cli.console import PlainConsole
from innerloop.harness.report.tables import Bars, Clauses
from tests.golden.call import HERE
from tests.golden.cases import STORED

FOLDED = 24  # letters: longer words, paths and sums, may go on in the next line
DRAWN = set("█░▏▕▁▂▃▄▅▆▇")
REPORTS = {
    "run": (show.main, [f"{STORED}/torch"]),
    "kernels": (show.main, [f"{STORED}/vllm"]),
    "layers": (show.main, [f"{STORED}/ladder"]),
    "comparison": (show.main, [f"{HERE}/experiment"]),
    "two runs": (compare.main, [f"{STORED}/torch", f"{STORED}/vllm"]),
    "steps": (steps.main, [f"{STORED}/vllm"]),
    "runs": (runs.main, [f"{STORED}"]),
}


def words(of: str, width: int, monkeypatch: pytest.MonkeyPatch) -> tuple[Counter[str], str]:
    verb, arguments = REPORTS[of]
    monkeypatch.setenv("COLUMNS", str(width))
    with contextlib.redirect_stdout(io.StringIO()) as out:
        verb(arguments)
    text = out.getvalue()
    return Counter(word for word in text.split() if len(word) <= FOLDED and not set(word) <= DRAWN), text


@pytest.mark.parametrize("of", REPORTS)
def test_nothing_is_lost_on_a_narrow_terminal(of: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wide, _ = words(of, 400, monkeypatch)
    for width in (40, 50, 60, 70):
        narrow, text = words(of, width, monkeypatch)
        assert not wide - narrow, width
        assert "…" not in text


def test_bars_are_as_many_as_there_is_room_for() -> None:
    console = PlainConsole(width=4, color_system=None)
    with console.capture() as found:
        console.print(Bars([0.0, 0.0, 4.0, 4.0, None, None, 8.0, 8.0]))
    assert found.get() == "▁▅ █\n"


@pytest.mark.parametrize(
    ("width", "lines"),
    [
        (40, ["load 1.29 GiB, peak 1.52 GiB"]),
        (28, ["load 1.29 GiB, peak 1.52 GiB"]),
        (27, ["load 1.29 GiB,", "peak 1.52 GiB"]),
        (8, ["load", "1.29", "GiB,", "peak", "1.52 GiB"]),
    ],
)
def test_a_number_and_its_unit_stay_on_a_line(width: int, lines: list[str]) -> None:
    console = PlainConsole(width=width, record=True, file=io.StringIO())
    console.print(Clauses("load 1.29 GiB, peak 1.52 GiB"))
    assert [line.rstrip() for line in console.export_text().splitlines()] == lines
