"""Commands in texts are spelled as the user called innerloop."""

from __future__ import annotations

import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

from innerloop.harness.cli.verbs import VERBS, as_called
from tests.real import ROOT

TEXT = "see innerloop run --help and innerloop check-engine x; innerloop runs lists them; innerloop is fast"


def called_as(module: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    main = ModuleType("__main__")
    main.__spec__ = None if module is None else ModuleSpec(module, None)
    monkeypatch.setitem(sys.modules, "__main__", main)


@pytest.mark.parametrize("module", [None, "innerloop.__main__", "pytest.__main__"])
def test_the_console_script_and_python_m_innerloop_say_innerloop(
    module: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    called_as(module, monkeypatch)
    assert as_called(TEXT) == TEXT


@pytest.mark.parametrize("module", ["harness.run", "harness.environments.__main__", "harness.__main__"])
def test_python_m_harness_says_its_own_form(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    called_as(module, monkeypatch)
    assert as_called(TEXT) == (
        "see python -m harness.run --help and python -m harness.check_engine x; python -m harness.runs lists them; "
        "innerloop is fast"
    )


@pytest.mark.parametrize(
    ("call", "form"),
    [
        (["-m", "harness.show"], "python -m harness.show"),
        (["-m", "innerloop", "show"], "innerloop show"),
        (["-m", "harness", "show"], "python -m harness.show"),
    ],
)
def test_a_refusal_and_help_use_the_form_of_the_call(call: list[str], form: str) -> None:
    def said(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, *call, *arguments], cwd=ROOT, capture_output=True, text=True)

    refused = said("no-such-run")
    assert refused.returncode == 2
    assert f"\n  list them with {form.removesuffix('show')}runs\n" in refused.stderr
    helped = said("--help")
    assert f"usage: {form} [-h]" in helped.stdout
    assert f"  {form} last\n" in helped.stdout


def test_every_verb_is_known_by_its_whole_name() -> None:
    assert {"run", "runs", "check-engine"} <= VERBS.keys()


def test_pages_of_the_docs_are_named_by_where_they_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "see docs/reference/glossary.md, docs/how-to/add-an-engine.md; not my/docs/reference/glossary.md or docs/"
    monkeypatch.chdir(tmp_path)
    page, other = ROOT / "docs/reference/glossary.md", ROOT / "docs/how-to/add-an-engine.md"
    assert page.exists()
    assert other.exists()
    assert as_called(text) == f"see {page}, {other}; not my/docs/reference/glossary.md or docs/"
    monkeypatch.chdir(ROOT)
    assert as_called(text) == text
