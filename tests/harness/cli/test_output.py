from __future__ import annotations

import pytest

from innerloop.harness.cli.output import print_json

DOCUMENT = {"folder": "/home/jürgen", "bytes": [1, None]}


def test_a_document_is_indented_and_keeps_its_letters(capsys: pytest.CaptureFixture[str]) -> None:
    print_json(DOCUMENT)
    assert capsys.readouterr().out == '{\n  "folder": "/home/jürgen",\n  "bytes": [\n    1,\n    null\n  ]\n}\n'


def test_other_letters_are_escaped_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    print_json(DOCUMENT, indent=1, ascii=True)
    assert capsys.readouterr().out == '{\n "folder": "/home/j\\u00fcrgen",\n "bytes": [\n  1,\n  null\n ]\n}\n'


def test_a_document_can_stand_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_json(DOCUMENT, indent=None)
    assert capsys.readouterr().out == '{"folder": "/home/jürgen", "bytes": [1, null]}\n'


def test_a_number_that_json_does_not_know_is_an_error() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        print_json({"rate": float("nan")})
