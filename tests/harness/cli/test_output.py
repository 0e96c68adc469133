from __future__ import annotations

import json

import pytest

from innerloop.harness import __version__
from innerloop.harness.cli.output import print_json

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


def test_a_document_can_stand_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_json(DOCUMENT, "places", indent=None)
    assert capsys.readouterr().out.count("\n") == 1


def test_a_number_that_json_does_not_know_is_an_error() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        print_json({"rate": float("nan")}, "rates")
