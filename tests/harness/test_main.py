from __future__ import annotations

import pytest

from innerloop.harness import __main__ as cli
from innerloop.harness import __version__


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


def test_a_wrong_verb_is_refused_with_the_nearest(monkeypatch, capsys):
    code, output = call(monkeypatch, capsys, "rnu")
    assert code == 2
    assert "'run'" in output.err


@pytest.mark.parametrize("flag", ["--version", "version"])
def test_the_version_is_the_packages(monkeypatch, capsys, flag):
    assert call(monkeypatch, capsys, flag)[1].out.strip() == f"innerloop {__version__}"
