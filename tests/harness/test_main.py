from __future__ import annotations

import importlib
import os
import subprocess
import sys

import pytest

from innerloop.harness import __main__ as cli
from innerloop.harness import __version__
from tests.real import ROOT


def call(monkeypatch, capsys, *arguments):
    monkeypatch.setattr("sys.argv", ["innerloop", *arguments])
    code: object
    try:
        code = cli.main()
    except SystemExit as left:
        code = left.code
    return code, capsys.readouterr()


def test_every_verb_has_help_with_an_example(monkeypatch, capsys):
    for verb in cli.VERBS:
        code, output = call(monkeypatch, capsys, verb, "--help")
        assert code == 0
        assert f"usage: innerloop {verb} " in output.out
        assert "example" in output.out.lower(), verb


def test_no_verb_lists_them_all(monkeypatch, capsys):
    code, output = call(monkeypatch, capsys)
    assert code == 0
    assert all(verb in output.out for verb in cli.VERBS)


NAME = "./no\nsuch"
REFUSED = (  # command lines with a name over two lines
    ["show", NAME],
    ["compare", NAME, NAME],
    ["steps", NAME],
    ["export", NAME, "--as", "steps"],
    ["report", NAME, "-o", "x.html"],
    ["gate", NAME, "--fail-if", "latency_s.e2e.p50 > 1"],
    ["resume", NAME],
    ["suite", NAME],
    ["sweep", NAME],
    ["watch", NAME],
    ["watch", "--rate", NAME],
    ["noise", NAME],
    ["bisect", NAME, "0.1..0.2"],
    ["doctor", NAME],
    ["check-engine", NAME],
    ["find-rate", "--slo", NAME],
    ["run", "--engine", NAME],
    ["run", "--engine", "torch", "--workload", NAME, "--model", NAME, "--set", f"{NAME}=1"],
    ["run", f"--{NAME}"],
    ["profiles", "show", NAME],
    ["profiles", "check", NAME],
    ["profiles", NAME],
    ["environments", "create", NAME],
    ["environments", "remove", NAME],
    ["environments", "register", NAME, NAME, "--engine", "torch"],
    ["checkpoints", "create", NAME],
    ["checkpoints", "remove", NAME],
    ["ceilings", "remove", NAME],
)


@pytest.mark.parametrize("words", REFUSED, ids=lambda words: " ".join(words).replace(NAME, "NAME"))
def test_a_name_with_a_newline_breaks_no_line_of_a_refusal(monkeypatch, capsys, tmp_path, words):
    monkeypatch.chdir(tmp_path)
    code, output = call(monkeypatch, capsys, *words)
    said = output.out + output.err
    assert code == 2
    assert "no\\nsuch" in said
    assert "no\nsuch" not in said


def test_a_wrong_verb_is_refused_with_the_nearest(monkeypatch, capsys):
    code, output = call(monkeypatch, capsys, "rnu")
    assert code == 2
    assert "'run'" in output.err


@pytest.mark.parametrize("flag", ["--version", "version"])
def test_the_version_is_the_packages(monkeypatch, capsys, flag):
    assert call(monkeypatch, capsys, flag)[1].out.strip() == f"innerloop {__version__}"


CALLS = (["run", "--help"], ["--version"], ["help"], ["profiles"], ["suite"])


@pytest.mark.parametrize("words", CALLS, ids=" ".join)
def test_what_needs_no_run_is_told_in_any_encoding_and_says_where_it_cannot_be(words: list[str]) -> None:
    command = [sys.executable, "-m", "innerloop", *words]
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii:strict"}
    done = subprocess.run(command, env=ascii_only, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 3
    assert done.stderr == "innerloop: the output could not be written: No space left on device\n"


@pytest.mark.parametrize(
    ("verb", "words", "keeps"),
    [
        ("compare", ["--base", "x", "--change", "y"], True),
        ("compare", ["--base", "x", "--change", "y", "--dry-run"], False),
        ("compare", ["a", "b"], False),
        ("compare", ["a", "b", "--fail-if", "ttft.p50 > 1 s"], True),
        ("gate", ["a", "b"], True),
        ("check_engine", ["x"], True),
        ("report.__main__", ["a"], True),
        ("export.__main__", ["a", "--as", "steps"], True),
        ("environments.__main__", ["create", "torch"], True),
        ("environments.__main__", ["create", "torch", "--dry-run"], False),
        ("environments.__main__", ["list"], False),
        ("checkpoints.__main__", ["create", "llama-tiny"], True),
        ("checkpoints.__main__", ["plan", "llama-tiny"], False),
        ("ceilings.__main__", ["measure"], True),
        ("ceilings.__main__", ["list"], False),
        ("noise", ["--base", "x"], True),
        ("noise", ["--base", "x", "--dry-run"], False),
        ("noise", [], False),
        ("resume", ["a"], True),
        ("suite", ["study"], True),
        ("suite", [], False),
    ],
)
def test_what_was_run_keeps_its_exit_code_where_its_output_is_lost(monkeypatch, verb, words, keeps):
    """A verb that runs or makes something has that on the disk, and the code of one that checks is its answer; one that
    only looks has nothing but its output."""
    seen = []
    module = importlib.import_module(f"innerloop.harness.{verb}")

    def as_command(work, keeps=False):
        seen.append(keeps)
        return 0

    monkeypatch.setattr(module, "as_command", as_command)
    assert module.main(words) == 0
    assert seen == [keeps]
