from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from innerloop.harness import __version__
from innerloop.harness.cli.errors import Refused
from innerloop.harness.cli.output import print_json, printing, refuse_one_file_twice, say, tell
from innerloop.harness.cli.progress import progress_console
from innerloop.harness.cli.secrets import HIDDEN
from innerloop.harness.cli.words import is_control

DOCUMENT = {"folder": "/home/jürgen", "bytes": [1, None]}


def test_a_document_says_what_it_is_and_keeps_its_letters(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"folder": "/home/jürgen"}, "places")
    assert capsys.readouterr().out == (
        f'{{\n  "kind": "places",\n  "schema_version": "1.0",\n  "innerloop_version": "{__version__}",\n'
        '  "folder": "/home/jürgen"\n}\n'
    )


def test_a_document_that_says_what_it_is_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    document = {"schema_version": "2.0", "kind": "run", "innerloop_version": "0.0.9", **DOCUMENT}
    print_json(document)
    assert json.loads(capsys.readouterr().out) == document
    with pytest.raises(ValueError, match="without kind, schema_version, innerloop_version"):
        print_json(DOCUMENT)


def test_what_went_wrong_is_a_line_and_each_detail_another(capsys: pytest.CaptureFixture[str]) -> None:
    tell("no\nsuch file\tof\x1b mine", "token=\nk api_key=k-1\n", "list")
    assert capsys.readouterr().err == (
        f"innerloop: no\\nsuch file\tof\\x1b mine\n  token=\\nk api_key={HIDDEN}\\n\n  list\n"
    )


def test_a_document_can_stand_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_json(DOCUMENT, "places", indent=None)
    assert capsys.readouterr().out.count("\n") == 1


def test_a_number_that_json_does_not_know_is_an_error() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        print_json({"rate": float("nan")}, "rates")


HOSTILE = "a\x1b[31m\x1b]0;title\x07\x9b2J\u202e\u2028[/INST]\udc80##vso[x]"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_a_document_is_the_same_in_every_encoding_and_nothing_in_it_acts_on_a_terminal(encoding: str) -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding=encoding)
    with contextlib.redirect_stdout(out):
        print_json({"text": HOSTILE, "folder": "/home/jürgen"}, "x")
    out.flush()
    printed = raw.getvalue().decode(encoding)
    assert json.loads(printed)["text"] == HOSTILE
    assert json.loads(printed)["folder"] == "/home/jürgen"
    assert not any(is_control(letter) for letter in printed if letter != "\n")
    assert "##" not in printed


def test_lines_and_complaints_are_printable(capsys: pytest.CaptureFixture[str]) -> None:
    say(HOSTILE, "two\nlines")
    tell(HOSTILE, "try\tthis")
    shown = "a\\x1b[31m\\x1b]0;title\\x07\\x9b2J\\u202e\\u2028[/INST]\\udc80#\\x23vso[x]"
    assert capsys.readouterr() == (f"{shown}\ntwo\nlines\n", f"innerloop: {shown}\n  try\tthis\n")


def test_what_cannot_be_printed_leaves_the_work_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with printing(Path("runs/x"), progress_console()):
        raise KeyError("place")
    assert capsys.readouterr() == ("", "the result could not be printed (KeyError: 'place'); it is in runs/x\n")


@pytest.mark.parametrize(("closed", "code"), [("2>&-", 2), ("<&- >&- 2>&-", 0)])
def test_what_is_started_without_streams_ends_as_with_them(closed: str, code: int, tmp_path: Path) -> None:
    verb = "nosuch" if code else "runs"
    command = ["bash", "-c", f'"$0" -m innerloop {verb} {closed}', sys.executable]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")


def test_two_outputs_into_one_file_are_refused() -> None:
    refuse_one_file_twice([("--out", Path("a")), ("--markdown", None), ("--junit", Path("b"))])
    with pytest.raises(Refused, match=r"^--out and --junit name the same file"):
        refuse_one_file_twice([("--out", Path("a")), ("--junit", Path.cwd() / "a")])


def test_one_file_is_one_however_its_path_is_written(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    for other in (tmp_path / "link" / "a", tmp_path / "link" / ".." / tmp_path.name / "a"):
        with pytest.raises(Refused, match="name the same file"):
            refuse_one_file_twice([("--out", tmp_path / "a"), ("--junit", other)])


def test_what_went_wrong_is_told_without_credentials(capsys: pytest.CaptureFixture[str]) -> None:
    tell("--weights https:/me:hunter2@host/x: no such folder", "--workload-arg api_key=hunter2 is no field")
    found = capsys.readouterr().err
    assert "hunter2" not in found
    assert "host/x: no such folder" in found
