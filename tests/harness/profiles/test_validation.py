"""YAML as JSON can say it, and overrides by dotted path."""

from __future__ import annotations

import copy
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from innerloop.harness.cli.errors import Refused
from innerloop.harness.profiles.validation import apply_overrides, parse_assignments, parse_yaml, read_mapping

TEN = ", ".join(["{}"] * 10)
LINES = [f"{name}: &{name} [{TEN.format(*[f'*{before}'] * 10)}]" for before, name in pairwise("abcdefghi")]
BOMB = "\n".join((f"a: &a [{TEN.format(*range(10))}]", *LINES))  # 10^9 values in 9 lines


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("-2E+3", -2000.0),
        ("1.5e3", 1500.0),
        ("1e", "1e"),
        ("e5", "e5"),
        ("2024-06-01", "2024-06-01"),
        ("7", 7),
        ("'7'", "7"),
        ("", None),
        ("{a: [1, b], c: null}", {"a": [1, "b"], "c": None}),
        ("{a: &x {b: 1}, c: {<<: *x}}", {"a": {"b": 1}, "c": {"b": 1}}),
    ],
)
def test_yaml_is_read_as_people_mean_it(text: str, value: Any) -> None:
    assert parse_yaml(text, "here") == value


def test_what_was_read_once_is_not_changed_by_what_is_made_of_it(tmp_path: Path) -> None:
    (path := tmp_path / "p.yaml").write_text("{a: [1], b: {c: 2}}")
    first = read_mapping(path, "here")
    first["a"].append(3)
    first["b"]["c"] = 4
    assert read_mapping(path, "here") == {"a": [1], "b": {"c": 2}}
    path.write_text("{a: 5}")
    assert read_mapping(path, "here") == {"a": 5}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: .inf", "here: a is inf; it must be finite"),
        ("a: {b: [.nan]}", "here: a.b is nan"),
        ("a: {1: 2}", "here: the key 1 in a is not a string"),
        ("a: !!set {b}", "here, line 1: tag:yaml.org,2002:set is a YAML tag; give the value without it"),
        ("a: 1\nb: }", "here, line 2: "),
        ("9" * 5000, "here is not valid YAML"),
        ("a: 0x" + "f" * 5000, "here: a is a number of 20000 bits; the limit is 64"),
        ("a: !!int ''", "here, line 1: tag:yaml.org,2002:int is a YAML tag"),
        ("a: " + "[" * 5000, "here, line 1: this is nested more than 50 levels deep"),
        ("a: &a [*a]", "here, line 1: *a contains itself"),
        (BOMB, "here, line 5: this contains more than 100000 values"),
    ],
)
def test_what_json_cannot_say_is_refused(text: str, message: str) -> None:
    with pytest.raises(Refused) as refused:
        parse_yaml(text, "here")
    assert str(refused.value).startswith(message)


def test_an_assignment_ends_its_name_at_the_first_equals_sign() -> None:
    assert parse_assignments(["a=b=c", "x= {y: 1}", "a=2"], "--set") == {"a": 2, "x": {"y": 1}}


def test_overrides_leave_their_input_as_it_was() -> None:
    data = {"a": {"b": 1, "c": [1]}}
    before = copy.deepcopy(data)
    assert apply_overrides(data, ["a.b=2", "d.e=3"], "--x") == {"a": {"b": 2, "c": [1]}, "d": {"e": 3}}
    assert data == before


def test_another_kind_drops_the_fields_of_the_old_one() -> None:
    data = {"a": {"kind": "uniform", "min": 1, "max": 2}}
    assert apply_overrides(data, ["a.tokens=5", "a.kind=fixed"], "--x") == {"a": {"kind": "fixed", "tokens": 5}}
    assert apply_overrides(data, ["a.kind=uniform"], "--x") == data
