"""A table on a narrow terminal keeps every cell, and no line is wider than the terminal."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from innerloop.harness.cli.console import PlainConsole
from innerloop.harness.cli.tables import FittedTable


def shown(table: FittedTable, width: int) -> list[str]:
    console = PlainConsole(width=width, color_system=None)
    with console.capture() as found:
        console.print(table)
    return found.get().splitlines()


def latencies() -> FittedTable:
    table = FittedTable()
    table.add_column("latency", no_wrap=True)
    for name in ("mean", "p50", "p99"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_row("TTFT", "57.7 ms", "61.0 ms", "99.9 ms")
    table.add_row("end to end", "452 ms", "478 ms", "901 ms")
    return table


def test_a_table_that_fits_is_one() -> None:
    assert shown(latencies(), 39) == [
        "latency        mean      p50      p99",
        "TTFT        57.7 ms  61.0 ms  99.9 ms",
        "end to end   452 ms   478 ms   901 ms",
    ]


def test_a_newline_in_a_text_breaks_no_row() -> None:
    table = latencies()
    table.add_row("a\nb\r\x9b", "1", "2", "3")
    assert [line.split() for line in shown(table, 60)][-1] == ["a\\nb\\r\\x9b", "1", "2", "3"]
    assert len(shown(table, 60)) == 4


def test_columns_that_do_not_fit_go_below_and_the_first_one_is_repeated() -> None:
    assert shown(latencies(), 28) == [
        "latency        mean      p50",
        "TTFT        57.7 ms  61.0 ms",
        "end to end   452 ms   478 ms",
        "",
        "latency         p99",
        "TTFT        99.9 ms",
        "end to end   901 ms",
    ]


def test_a_row_is_lines_where_not_even_that_fits() -> None:
    assert shown(latencies(), 18)[:6] == ["latency", "TTFT", "  mean  57.7 ms", "  p50   61.0 ms", "  p99   99.9 ms",
                                          "end to end"]  # fmt: skip


def test_texts_wrap_before_columns_move() -> None:
    table = FittedTable()
    table.add_column("engine", no_wrap=True)
    table.add_column("why")
    table.add_column("n", justify="right", no_wrap=True)
    table.add_row("tgi", "this machine has no GPU", "12")
    assert shown(table, 24) == ["engine  why            n", "tgi     this machine  12", "        has no GPU"]


def test_a_long_path_is_folded_and_whole() -> None:
    table = FittedTable(show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    path = "/var/cache/innerloop/checkpoints/llama-tiny-float32-0123456789ab"
    table.add_row("model", path)
    lines = shown(table, 40)
    assert "".join(lines).removeprefix("model").replace(" ", "") == path
    assert len(lines) == 2


@pytest.mark.parametrize("width", [20, 33, 50, 60, 70])
def test_no_word_is_lost_at_any_width(width: int) -> None:
    chance = random.Random(width)
    for _ in range(20):
        table = FittedTable()
        columns = chance.randint(2, 9)
        for place in range(columns):
            table.add_column(f"c{place}", justify=chance.choice(["left", "right"]), no_wrap=chance.random() < 0.7)
        words = []
        for row in range(3):
            cells = [" ".join(f"{row}{place}x{k}" for k in range(chance.randint(1, 3))) for place in range(columns)]
            words += " ".join(cells).split()
            table.add_row(*cells)
        lines = shown(table, width)
        assert not Counter(words) - Counter(" ".join(lines).split())
        assert max(map(len, lines)) <= width
