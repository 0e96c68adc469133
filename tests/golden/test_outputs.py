"""What is printed is what it was: of runs that the first version stored, of plans, refusals, help and the doctor."""

from __future__ import annotations

import hashlib
import json
import re
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.golden.call import started
from tests.golden.cases import CASES, EXPECTED, STORED, VERBS, copy_of_the_runs, expected
from tests.golden.shape import unlike

RICH = tuple(map(int, version("rich").split(".")[:2]))
NUMBER = r"-?\d+(?:\.\d+)?(?:e[+-]\d+)?"


def layout(text: str) -> str:
    """The text as it is; without blanks and line breaks with a rich before 14.3, which made some columns wider, and
    where the place of the docs is in it, since lines break by the length of the checkout's path."""
    return text if RICH >= (14, 3) and "/checkout/docs/" not in text else " ".join(text.split())


@pytest.mark.parametrize("name", [name for name in CASES if expected(name).suffix == ".txt"])
def test_text_is_the_same_to_the_letter(name: str) -> None:
    if name == "show_narrow" and RICH < (14, 3):
        pytest.skip("a rich before 14.3 makes some columns wider, so that there is no room for others")
    told, recorded = CASES[name].told(), expected(name).read_text(encoding="utf-8")
    assert layout(told) == layout(recorded)


def test_no_line_ends_in_blanks() -> None:
    """Of what was recorded, to which every output is held above."""
    ends = {
        f"{path.name}: {line!r}"
        for path in sorted(EXPECTED.iterdir())
        for line in path.read_text(encoding="utf-8").split("\n")
        if line != line.rstrip()
    }
    assert ends == set()


@pytest.mark.parametrize("name", [name for name in CASES if expected(name).suffix == ".json"])
def test_json_is_the_same(name: str) -> None:
    """Also in its order and layout; only the last digits of fractions may differ (see `unlike`)."""
    told = CASES[name].told()
    recorded = expected(name).read_text(encoding="utf-8")
    assert list(unlike(json.loads(told), json.loads(recorded))) == []
    assert re.sub(NUMBER, "N", told) == re.sub(NUMBER, "N", recorded)


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_is_also_a_module_that_python_runs(verb: str) -> None:
    """Its help names the commands as they were called; else it is the same."""
    module = verb.replace("-", "_")
    done = started(module, "--help", columns=100, interpreter=True)
    assert (done.code, done.err) == (0, "")
    assert f"usage: python -m harness.{module} " in done.out
    told = in_one_line(done.out)
    as_innerloop = re.sub(r"python -m harness\.(\w+)", lambda found: f"innerloop {found[1].replace('_', '-')}", told)
    assert as_innerloop == in_one_line(CASES[f"help_{verb}"].done().out)


def in_one_line(text: str) -> str:
    """Help without the places at which its lines are broken."""
    return " ".join(text.replace(" \\\n", " ").split())


def test_the_trace_of_an_old_run_is_the_one_that_it_had(tmp_path: Path) -> None:
    place = copy_of_the_runs(tmp_path)
    written = place / STORED.name / "torch" / "trace.perfetto-trace"
    written.unlink()
    assert CASES["show_trace"].done(place).code == 0
    assert written.read_bytes() == (STORED / "torch" / written.name).read_bytes()


def test_every_recorded_file_is_compared() -> None:
    recorded = {path for path in EXPECTED.iterdir() if not path.name.startswith("real_")}
    assert recorded == {expected(name) for name in CASES}


def test_the_stored_runs_are_as_the_first_version_wrote_them() -> None:
    """Nothing above wrote into them, and nobody has edited them."""
    sums = dict(line.split("  ")[::-1] for line in (STORED / "SHA256SUMS").read_text().splitlines())
    found = {
        path.relative_to(STORED).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in STORED.rglob("*")
        if path.is_file() and path.name != "SHA256SUMS"
    }
    assert found == sums
