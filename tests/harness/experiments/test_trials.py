"""The document of several trials of the same thing, from stored runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from innerloop.harness.cli.errors import Refused
from innerloop.harness.experiments.asking import Asked
from innerloop.harness.experiments.stored import compared_runs
from innerloop.harness.experiments.trials import measured
from innerloop.harness.pages.trials import trials_page
from innerloop.harness.report.trials import print_trials
from innerloop.harness.result.figures import PRIMARY
from innerloop.harness.store import journal
from innerloop.harness.store.typed import document, typed
from tests.harness.made import SPEEDS

TAIL = "latency_s.ttft.p99"
WHY = "p99 needs at least 100 values in each run; fewest: 8"  # the runs have 8 requests


def test_a_quantile_of_too_few_values_is_a_dash_and_a_footnote(experiment, capsys) -> None:
    folder: Path = experiment("t", options={"metric": PRIMARY}, trials=SPEEDS)
    found = measured(folder)
    [load] = found.loads
    assert load.too_few[TAIL] == WHY
    assert TAIL not in (*load.missing, *(one.name for one in load.figures))
    assert typed(type(found), document(found)) == found
    print_trials(found)
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines() if line.strip().startswith("ttft.p99")]
    assert {cell for row in rows for cell in row[1:]} == {"-"}
    assert WHY in " ".join(out.split())


def test_a_metric_of_too_few_values_is_said_to_be_unknown(experiment, capsys) -> None:
    found = measured(experiment("t", options={"metric": TAIL}, trials=SPEEDS))
    print_trials(found)
    assert f"{WHY}; run more requests, or choose a lower quantile" in " ".join(capsys.readouterr().out.split())
    assert trials_page(found, "t").verdict == f"{found.loads[0].workload}: TTFT p99 is unknown: {WHY}."


def test_an_advised_command_is_one_that_a_shell_reads(experiment) -> None:
    folder: Path = experiment("an old one", options={"metric": PRIMARY}, trials=SPEEDS)
    (folder / journal.FILE).write_text("")
    for look in (measured, lambda it: compared_runs(str(it), str(it), Asked(PRIMARY))):
        with pytest.raises(Refused) as refused:
            look(folder)
        assert f"innerloop resume '{folder}' " in refused.value.details[0]
