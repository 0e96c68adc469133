"""Numbers as a person reads them."""

from __future__ import annotations

import pytest

from innerloop.harness.cli.words import (
    assignments,
    cores,
    counted,
    ends,
    levels,
    number,
    printable,
    seconds,
    share,
    size,
    visible,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0, "0"),
        (0.0, "0"),
        (11482, "11\u202f482"),
        (11481.6, "11\u202f482"),
        (96.44, "96.4"),
        (9.996, "10.0"),
        (1.0, "1.00"),
        (0.01234, "0.0123"),
        (1234567.8, "1\u202f234\u202f568"),
    ],
)
def test_number(value: float | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0, "0 s"),
        (5e-20, "0 s"),  # what sums leave of nothing
        (41.23, "41.2 s"),
        (300.0, "300 s"),
        (0.9996, "1.00 s"),
        (0.0321, "32.1 ms"),
        (0.00085, "850 µs"),
        (40e-9, "40.0 ns"),
    ],
)
def test_seconds(value: float | None, text: str) -> None:
    assert seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0, "0 B"),
        (999, "999 B"),
        (15 << 30, "15.0 GiB"),
        (1023 << 20, "0.999 GiB"),
        (3 << 52, "12\u202f288 TiB"),
    ],
)
def test_size(value: float | None, text: str) -> None:
    assert size(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0.0, "0.0 %"), (0.381, "38.1 %"), (1.0, "100.0 %"), (0.0005, "0.05 %"), (-2.2e-16, "0.0 %")],
)
def test_share(value: float | None, text: str) -> None:
    assert share(value) == text


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_is_a_dash(value: float | None) -> None:
    assert [words(value) for words in (number, seconds, size, share)] == ["-"] * 4


def test_levels_go_from_nothing_to_the_largest() -> None:
    assert levels([0, 4, None, 8]) == "▁▅ █"
    assert levels([1, 2], top=8) == "▂▃"
    assert levels([0, 0]) == "▁▁"
    assert levels([-9, 3]) == "▁█"  # of a damaged trace
    assert levels([None]) == " "
    assert levels([float("nan"), 1, float("inf")]) == " █ "


def test_control_characters_of_a_users_text_are_escaped() -> None:
    assert visible("größer ✓ a b") == "größer ✓ a b"
    assert visible("a\x1b[31mb\n\x07") == "a\\x1b[31mb\\n\\x07"
    assert visible("\u202egpj.exe") == "\\u202egpj.exe"
    assert visible("bad \udcff byte") == "bad \\udcff byte"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("::error file=a.py,line=1::x", "\\x3a:error file=a.py,line=1::x"),
        ("::error file=C:a.py::x", "\\x3a:error file=C:a.py::x"),
        ("\u00a0\u3000::error::x", "\u00a0\u3000\\x3a:error::x"),
        ("x\n  ::set-output name=a::b", "x\n  \\x3a:set-output name=a::b"),
        ("x ##vso[task.setvariable]y\n##[group]", "x #\\x23vso[task.setvariable]y\n#\\x23[group]"),
        *((text, text) for text in ("::1", "tests/a.py::test_b::c", "## a [link]", "a: b\n:: c", "std::vector::at")),
    ],
)
def test_what_a_ci_system_would_take_for_a_command_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_what_was_set_is_written_as_it_is_typed() -> None:
    given = {"max_batch_size": 16, "prefix_caching": True, "kv_cache_tokens": None, "dtype": "float32", "load.a": [1]}
    words = "max_batch_size=16 prefix_caching=true kv_cache_tokens=null dtype=float32 load.a=[1]"
    assert assignments(given) == words
    assert assignments({"try": "a\x1bb"}) == "try=a\\x1bb"
    assert assignments({}) == ""


def test_an_interval_is_named_by_its_ends() -> None:
    assert ends(1.0, 2.0) == "1.00 to 2.00"
    assert ends(None, 0.02, seconds, " - ") == "- - 20.0 ms"
    assert ends(0.5, None, share) == "50.0 % to -"
    assert ends(None, None, share) == "-"


def test_cores() -> None:
    assert (cores(1.5), cores(0.0), cores(None)) == ("1.50", "0.00", "-")


def test_one_is_not_counted_in_the_plural() -> None:
    assert [counted(count, "step") for count in (0, 1, 11_482)] == ["0 steps", "1 step", "11\u202f482 steps"]
