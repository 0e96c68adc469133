"""Lengths: within their bounds, with their mean, and from files whose mistakes are named by line."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from innerloop.harness.cli.errors import Refused
from innerloop.harness.profiles import Fixed, FromFile, Lognormal, Normal, Uniform
from innerloop.harness.workloads import lengths
from innerloop.harness.workloads.lengths import AnyLength, draw

MANY = 50_000
KINDS: list[AnyLength] = [
    Fixed(kind="fixed", tokens=7),
    Uniform(kind="uniform", min=3, max=9),
    Normal(kind="normal", mean=100, std=50, min=60, max=150),
    Lognormal(kind="lognormal", median=200, sigma=0.8, min=20, max=512),
]
BOUNDS = {"fixed": (7, 7), "uniform": (3, 9), "normal": (60, 150), "lognormal": (20, 512)}


@pytest.mark.parametrize("length", KINDS, ids=lambda length: length.kind)
def test_draws_stay_within_bounds_and_are_repeatable(length: AnyLength) -> None:
    drawn = draw(length, MANY, 1, lengths.PROMPT)
    low, high = BOUNDS[length.kind]
    assert (drawn.min(), drawn.max()) == (low, high)
    assert drawn.dtype == np.int64
    assert (drawn[:10] == draw(length, 10, 1, lengths.PROMPT)).all()
    assert lengths.longest(length)[0] == high


@pytest.mark.parametrize("length", KINDS[1:], ids=lambda length: length.kind)
def test_seeds_and_parts_draw_other_lengths(length: AnyLength) -> None:
    drawn = draw(length, 100, 1, lengths.PROMPT)
    assert (drawn != draw(length, 100, 2, lengths.PROMPT)).any()
    assert (drawn != draw(length, 100, 1, lengths.OUTPUT)).any()


def test_uniform_draws_every_length_equally_often() -> None:
    counts = np.bincount(draw(KINDS[1], MANY, 1, lengths.PROMPT))[3:]
    assert np.abs(counts / MANY - 1 / 7).max() < 0.01


def test_normal_has_its_mean_and_deviation() -> None:
    drawn = draw(Normal(kind="normal", mean=500, std=50, min=1, max=1000), MANY, 1, lengths.PROMPT)
    assert (drawn.mean(), drawn.std()) == pytest.approx((500, 50), rel=0.01)


def test_lognormal_has_its_median_and_is_cut_as_by_a_token_limit() -> None:
    drawn = draw(KINDS[3], MANY, 1, lengths.OUTPUT)
    assert np.median(drawn) == pytest.approx(200, rel=0.02)
    assert (drawn == 512).mean() == pytest.approx(0.12, abs=0.01)  # P(z > ln(512/200) / 0.8)


def write(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def in_order(path: str, column: str | None = None, **more: object) -> AnyLength:
    return FromFile.model_validate({"kind": "file", "path": path, "column": column, "order": "sequence", **more})


@pytest.mark.parametrize(
    ("name", "text", "column"),
    [
        ("a.csv", "time,out tokens\n0.5,5\n\n1.5,6.0\n2.5,7\n", "out tokens"),
        ("a.jsonl", '{"n": 5}\n\n{"n": 6}\n{"n": 7, "m": 1}\n', "n"),
        ("b.jsonl", "5\n6\n7\n", None),
        ("a.txt", "5\n6\n\n7", None),
        ("bom.csv", "\ufeffn\n5\n6\n7\n", "n"),
    ],
)
def test_a_file_is_read_in_order_and_again_from_its_beginning(
    tmp_path: Path, name: str, text: str, column: str | None
) -> None:
    length = in_order(write(tmp_path, name, text), column)
    assert draw(length, 5, 1, lengths.PROMPT).tolist() == [5, 6, 7, 5, 6]
    assert lengths.longest(length)[0] == 7


def test_a_relative_path_counts_from_the_folder_given(tmp_path: Path) -> None:
    write(tmp_path, "a.txt", "5\n")
    assert draw(in_order("a.txt"), 2, 1, lengths.PROMPT, tmp_path).tolist() == [5, 5]


def test_lengths_above_the_maximum_are_cut(tmp_path: Path) -> None:
    length = in_order(write(tmp_path, "a.txt", "5\n600\n"), max=64)
    assert draw(length, 2, 1, lengths.PROMPT).tolist() == [5, 64]
    assert lengths.longest(length)[0] == 64


def test_sampled_rows_keep_prompt_and_output_together(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "p,o\n" + "".join(f"{n},{n + 1000}\n" for n in range(1, 50)))
    prompts = draw(FromFile(kind="file", path=path, column="p"), 1000, 1, lengths.PROMPT)
    outputs = draw(FromFile(kind="file", path=path, column="o"), 1000, 1, lengths.OUTPUT)
    assert (outputs - prompts == 1000).all()
    assert len(np.unique(prompts)) > 40


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    length = in_order(write(tmp_path, "a.txt", "5\n"))
    assert lengths.longest(length)[0] == 5
    write(tmp_path, "a.txt", "6\n")
    os.utime(tmp_path / "a.txt", ns=(1, 1))
    assert lengths.longest(length)[0] == 6


@pytest.mark.parametrize(
    ("name", "text", "column", "message"),
    [
        ("a.csv", "n,m\n5,6\n-3,2\n", "n", "line 3: '-3' is not a whole number from 0"),
        ("a.csv", "n,m\n0,6\n0,2\n", "n", "contains no lengths"),
        ("a.csv", "n,m\n5.5,6\n", "n", "line 2: '5.5' is not a whole number"),
        ("a.csv", "m,n\n5\n", "n", "line 2: 'None' is not a whole number"),
        ("a.csv", "tokens,m\n5,6\n", "token", "has no column 'token'; did you mean 'tokens'"),
        ("a.csv", "n,m\n5,6\n", None, "column is missing; name the one in"),
        ("a.csv", "n,m\n", "n", "contains no lengths"),
        ("a.csv", "", "n", "has no column 'n'"),
        ("a.jsonl", '{"n": 5}\n{"n": "x"}\n', "n", "line 2: 'x' is not a whole number"),
        ("a.jsonl", '{"n": true}\n', "n", "line 1: 'True' is not a whole number"),
        ("a.jsonl", '{"n": 5}\n{n\n', "n", "line 2, is not JSON"),
        ("a.jsonl", '{"length": 5}\n', "lenght", "did you mean 'length'"),
        ("a.txt", "5\nnan\n", None, "line 2: 'nan' is not a whole number"),
        ("a.txt", "5\n1e99\n", None, "line 2: '1e99' is not a whole number"),
        ("a.txt", "5\n", "n", "column 'n'"),
        ("a.txt", "\n", None, "contains no lengths"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_by_line(
    tmp_path: Path, name: str, text: str, column: str | None, message: str
) -> None:
    path = write(tmp_path, name, text)
    with pytest.raises(Refused) as refused:
        draw(in_order(path, column), 3, 1, lengths.PROMPT)
    assert message in str(refused.value)
    assert path in str(refused.value)


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"none\.txt cannot be read: No such file"):
        lengths.longest(in_order(str(tmp_path / "none.txt")))
    os.mkfifo(tmp_path / "fifo")
    for path in (str(tmp_path), "/dev/zero", str(tmp_path / "fifo")):
        with pytest.raises(Refused, match="is not a regular file"):
            lengths.longest(in_order(path))
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\n")
    with pytest.raises(Refused, match="not UTF-8 text"):
        lengths.longest(in_order(str(tmp_path / "binary.txt")))
