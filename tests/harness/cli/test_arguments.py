"""Errors of a command line: one line that says the fix, and exit code 2."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from innerloop.harness.cli.arguments import (
    CommandLine,
    add_remove,
    command_line,
    duration,
    named_or_all,
    path_of,
    rate_up_to,
    whole,
)
from innerloop.harness.cli.errors import EXIT_REFUSED, Refused
from innerloop.harness.session.arguments import parser as run_parser


def toy() -> CommandLine:
    out = command_line("run", "A toy.", "", lambda word: "--engine vllm" if word == "vllm" else None)
    out.add_argument("--engine", metavar="NAME")
    out.add_argument("--seed", metavar="N")
    out.add_argument("--set", action="append", metavar="NAME=VALUE")
    out.add_argument("--timeout", type=duration)
    out.add_argument("--trials", type=whole(1, 9))
    out.add_argument("--device", choices=("cpu", "cuda"))
    return out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--set max_batch_size 64", "unexpected argument '64'; use --set max_batch_size=64"),
        ("--set a=1 64", "unexpected argument '64'; see innerloop run --help"),
        ("vllm", "unexpected argument 'vllm'; use --engine vllm"),
        ("--engin=x", None),  # an abbreviation
        ("--sede 1", "there is no option --sede; did you mean --seed or --set?"),
        ("--qqqqqq", "there is no option --qqqqqq; see innerloop run --help"),
        ("--version", "--version cannot follow a command; use innerloop --version"),
        ("--timeout 5x", "--timeout: '5x' is not a positive duration; use seconds, or a value such as 90s, 5m or 1h"),
        ("--timeout 0", "--timeout: '0' is not a positive duration; use seconds, or a value such as 90s, 5m or 1h"),
        ("--trials 10", "--trials: '10' is not a whole number from 1 to 9"),
        ("--trials two", "--trials: 'two' is not a whole number from 1 to 9"),
        ("--device cdua", "--device: 'cdua' is not a valid choice; did you mean 'cuda' or 'cpu'?"),
        ("--engine", "--engine needs a value; use --engine NAME"),
    ],
)
def test_an_error_is_one_line_with_the_fix(words: str, said: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    if said is None:
        assert toy().parse_args(words.split()).engine == "x"
        return
    with pytest.raises(SystemExit) as left:
        toy().parse_args(words.split())
    assert left.value.code == 2
    assert capsys.readouterr() == ("", f"innerloop: {said}\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("remove --al", None),
        ("lst", "there is no command 'lst'; did you mean 'list'?"),
        ("list --jsno", "there is no option --jsno; did you mean --json?"),
        ("create", "MODEL is missing; see innerloop rooms create --help"),
    ],
)
def test_sub_verbs_answer_for_themselves(words: str, said: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    top = command_line("rooms", "A toy.", "")
    verbs = top.add_subparsers(dest="verb")
    verbs.add_parser("list").add_argument("--json", action="store_true")
    verbs.add_parser("create").add_argument("model", metavar="MODEL")
    add_remove(verbs, "remove rooms", "a name")
    if said is None:
        assert top.parse_args(words.split()).all
        return
    with pytest.raises(SystemExit):
        top.parse_args(words.split())
    assert capsys.readouterr().err == f"innerloop: {said}\n"


def test_durations_have_units() -> None:
    texts = {"90": 90.0, "90s": 90.0, "5m": 300.0, "1h": 3600.0, "1.5h": 5400.0, "250ms": 0.25, " .5 m ": 30.0}
    assert {text: duration(text) for text in texts} == texts
    for text in ("", "s", "-1", "1d", "1e3", "inf", "nan", "0s", "1h30m"):
        with pytest.raises(argparse.ArgumentTypeError, match="not a positive duration"):
            duration(text)


def test_what_is_removed_is_named_or_all() -> None:
    known = ["torch-cpu", "vllm-cpu"]
    assert named_or_all(["vllm-cpu", "vllm-cpu"], False, known, "environment") == ["vllm-cpu"]
    assert named_or_all([], True, known, "environment") == known
    for names, every in (([], False), (["vllm-cpu"], True)):
        with pytest.raises(Refused, match="name at least one environment to remove, or give --all"):
            named_or_all(names, every, known, "environment")
    with pytest.raises(Refused, match="there is no environment 'vllm-cpo'; did you mean 'vllm-cpu'"):
        named_or_all(["torch-cpu", "vllm-cpo"], False, known, "environment")
    with pytest.raises(Refused, match="none exists yet"):
        named_or_all(["x"], False, [], "environment")


def test_a_path_behind_an_equals_sign_may_begin_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert path_of("~/results") == Path("/home/me/results")
    assert path_of("results/~") == Path("results/~")


@pytest.mark.parametrize("text", ["0", "1e-300", "nan", "inf", "21"])
def test_a_rate_that_no_clock_can_keep_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="not a valid rate"):
        rate_up_to(20)(text)


def test_what_follows_the_name_of_a_credential_is_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    from innerloop.harness.session.arguments import parser

    for words in ("--engine-arg api_key hunter2", "--model-arg x --api-token=hunter2", "hf_token hunter2"):
        with pytest.raises(SystemExit):
            parser().parse_args(words.split())
        assert "hunter2" not in capsys.readouterr().err


@pytest.mark.parametrize("blank", ["", " ", "\t"])
@pytest.mark.parametrize("words", [["--out"], ["--html"], ["--engine-python"], ["--weights"]])
def test_a_blank_path_is_not_the_current_folder(
    words: list[str], blank: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """As of a variable of a shell that is not set."""
    with pytest.raises(SystemExit) as ended:
        run_parser().parse_args([*words, blank])
    assert ended.value.code == EXIT_REFUSED
    assert capsys.readouterr().err == f"innerloop: {words[0]}: the path is blank\n"
