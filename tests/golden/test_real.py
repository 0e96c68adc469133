"""Real runs report, keep and write what they did. Their figures are not looked at.

What may differ from run to run: every number and its unit, and what depends on the machine's speed and on what else it
does (see `without_figures`). In a result a type is tolerated if a run that was recorded had it at that place: figures
that such short runs cannot give, of the steady part for example, are null in some and numbers in others.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.golden import real_runs
from tests.golden.call import Done
from tests.golden.masks import differences
from tests.golden.shape import parsed, strange
from tests.real import ONE_MORE
from tests.shared import LAYERS

pytestmark = pytest.mark.real
Ran = tuple[str, Path, Done]
NAMES = [pytest.param(name, marks=[ONE_MORE] if name in real_runs.RUNS else []) for name in real_runs.NAMES]


@pytest.fixture(scope="module", params=NAMES)
def ran(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """(name, its folder, how it ended) of each run."""
    name = request.param
    if name in real_runs.SHARED:
        shared = request.getfixturevalue("ladder") if name == "ladder" else request.getfixturevalue("whole_runs")[name]
        return name, shared.folder, real_runs.ended(shared)
    folder = tmp_path_factory.mktemp(name) / "run"
    done = real_runs.run(name, folder, **request.getfixturevalue("measured_here"))
    assert done.code == 0, done.err
    return name, folder, done


def test_its_report_has_the_same_lines(ran: Ran) -> None:
    name, folder, done = ran
    recorded = real_runs.report_file(name).read_text(encoding="utf-8").splitlines()
    assert differences(real_runs.report(name, folder, done), recorded) == []


def test_what_it_leaves_has_the_same_fields(ran: Ran) -> None:
    name, folder, _ = ran
    recorded = parsed(real_runs.kept_file(name).read_text(encoding="utf-8"))
    assert strange(real_runs.kept(folder), recorded) == []


def test_stdout_is_the_document_where_json_was_asked_for(ran: Ran) -> None:
    name, folder, done = ran
    if name in real_runs.JSON:
        assert done.out == real_runs.document(folder).read_text(encoding="utf-8")


def test_stderr_tells_the_phases(ran: Ran) -> None:
    name, _, done = ran
    assert real_runs.phases(done) == real_runs.PHASES * (len(LAYERS) if name == "ladder" else 1)
