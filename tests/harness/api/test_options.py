"""What `il.run` takes is what the command line takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import innerloop as il
from innerloop.harness.api.options import FLAGS, OWN, RunOptions, arguments_of
from innerloop.harness.profiles.validation import parse_assignments
from innerloop.harness.session.arguments import parser

OF_THE_COMMAND = {  # and not of the function
    *(
        "help",
        "layers",
        "trials",
        "until",
        "html",
        "windows",
        "metric",
        "budget",
        "fresh",
        "harness_cpus",
        "strict",
        "json",
        "dry_run",
    )
}


def test_nothing_given_is_the_command_without_flags() -> None:
    assert arguments_of({}) == parser().parse_args([])
    assert arguments_of({"engine": None, "settings": None, "trace": False, "label": {}}) == parser().parse_args([])


def test_every_flag_has_an_argument_or_is_the_commands_own() -> None:
    flags = {flag for action in parser()._actions for flag in action.option_strings}
    names = {FLAGS.get(name, name).replace("_", "-") for name in (*OWN, *RunOptions.__annotations__)}
    assert {f"--{name}" for name in names} <= flags
    destinations = {action.dest.replace("_", "-") for action in parser()._actions}
    assert destinations - names == {name.replace("_", "-") for name in OF_THE_COMMAND}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"engine": "vllm", "model": "llama-1b", "seed": 7}, "--engine vllm --model llama-1b --seed 7"),
        ({"timeout": 90, "hang_timeout": "5m"}, "--timeout 90 --hang-timeout 5m"),
        ({"trace": True, "device_telemetry": "off"}, "--trace --device-telemetry off"),
        ({"label": {"a": 1, "b": "x=y"}, "note": "-- no flag"}, "--label a=1 --label b=x=y"),
    ],
)
def test_arguments_are_flags(given: dict[str, Any], words: str) -> None:
    expected = parser().parse_args(words.split())
    expected.note = given.get("note")
    assert arguments_of(given) == expected


def test_values_arrive_as_they_are() -> None:
    given = {"a": True, "b": 1e-7, "c": "true", "d": None, "e": [1, "x"], "f": {"kind": "open", "rate": 2.5}, "g": -3}
    for name, flag in (("settings", "set"), ("engine_args", "engine_arg"), ("workload_args", "workload_arg")):
        found = getattr(arguments_of({name: given}), flag)
        assert parse_assignments(found, "--set") == given


def test_a_path_object_is_a_path_and_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert arguments_of({"engine": Path("mine"), "workload": "quick"}).engine == str(tmp_path / "mine")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"device_telemetry": "some"}, "--device-telemetry: 'some' is not a valid choice"),
        ({"timeout": -1}, "--timeout: "),
        ({"settings": {"x": object()}}, "--set x: a profile cannot store"),
        ({"settings": {"x": float("nan")}}, "--set x: a profile cannot store nan"),
    ],
)
def test_wrong_values_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(il.Refused, match=said):
        arguments_of(given)


def test_an_unknown_argument_is_a_type_error_that_names_the_nearest() -> None:
    with pytest.raises(TypeError, match=r"no option 'engine_arg'; did you mean 'engine_args'"):
        arguments_of({"engine_arg": {}})
