"""Real runs report, keep and write what they did. Their figures are not looked at, but for a ladder's sums.

What may differ from run to run: every number and its unit, and what depends on the machine's speed and on what else it
does (see `without_figures`). In a result a type is tolerated if a run that was recorded had it at that place: figures
that such short runs cannot give, of the steady part for example, are null in some and numbers in others.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.golden import real_runs
from tests.golden.call import Done
from tests.golden.masks import differences
from tests.golden.shape import parsed, strange
from tests.real import ONE_MORE

pytestmark = pytest.mark.real
Ran = tuple[str, Path, Done]
NAMES = [pytest.param(name, marks=[ONE_MORE] if name in ("torch", "profile") else []) for name in real_runs.NAMES]


@pytest.fixture(scope="module", params=NAMES)
def ran(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, measured_here: dict[str, str]) -> Ran:
    """(name, its folder, how it ended) of each run."""
    if request.param == real_runs.WHOLE:
        whole = request.getfixturevalue("whole_runs")[request.param]
        return request.param, whole.folder, real_runs.ended(whole)
    folder = tmp_path_factory.mktemp(request.param) / "run"
    done = real_runs.run(request.param, folder, **measured_here)
    assert done.code == 0, done.err
    return request.param, folder, done


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
        assert json.loads(done.out)["failure"] is None


def test_stderr_tells_the_phases(ran: Ran) -> None:
    name, _, done = ran
    assert real_runs.phases(done) == real_runs.PHASES * (2 if name == "ladder" else 1)


def test_torch_s_manager_is_a_layer_that_gives_the_same_tokens(ran: Ran) -> None:
    name, folder, _ = ran
    if name != "ladder":
        return
    waterfall = json.loads((folder / "document.json").read_text())
    assert waterfall["layers"] == ["core", "engine"]
    assert waterfall["differences"] == {}
    kept = [np.load(folder / "runs" / f"{layer}-1" / "output_ids.npz") for layer in ("core", "engine")]
    assert kept[0]["ids"].tolist() == kept[1]["ids"].tolist()
    steps = pq.read_table(folder / "runs" / "engine-1" / "steps.parquet").to_pydict()
    requests = pq.read_table(folder / "runs" / "engine-1" / "requests.parquet").to_pydict()
    assert sum(steps["prefill_positions"]) == sum(requests["prompt_tokens"])
    assert sum(steps["decode_positions"]) == sum(requests["output_tokens"]) - len(requests["output_tokens"])
