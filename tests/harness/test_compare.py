"""`innerloop compare A B` of two stored runs: what it prints, what it refuses, and that it invents no interval."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from innerloop.harness import compare as verb
from innerloop.harness.cli.errors import EXIT_OK, EXIT_REFUSED, Refused
from innerloop.harness.experiments.comparison import Member, Question, comparison, metric_named
from innerloop.harness.report.comparison import held
from innerloop.harness.result.compared_run import read_compared
from innerloop.harness.schema.comparison import Decomposition
from innerloop.harness.schema.engine import HostState
from innerloop.harness.schema.reasons import Failure
from innerloop.harness.schema.result import Result
from innerloop.harness.store.tables import Tables, read_tables
from tests.harness.filled import filled
from tests.harness.made import HOST, Make, environment, faster, suspect
from tests.real import ROOT


def batch_16(result: Result) -> Result:
    effective = {**result.engine.effective, "max_batch_size": 16}
    return replace(faster(result), engine=replace(result.engine, effective=effective))


def printed(capsys, *words: Any) -> str:
    assert verb.main([str(word) for word in words]) == EXIT_OK
    return capsys.readouterr().out


def as_json(capsys, *words: Any) -> dict[str, Any]:
    return json.loads(printed(capsys, *words, "--json"))


def test_two_runs_have_a_ratio_and_neither_interval_nor_verdict(make: Make, capsys) -> None:
    found = as_json(capsys, make("a"), make("b", batch_16))
    assert (found["kind"], found["trials"], found["margin"]) == ("comparison", 1, 0.02)
    first = found["figures"][0]
    assert first["name"] == found["metric"] == "throughput.output_tokens_per_s"
    assert first["ratio"] == {"value": pytest.approx(1.1), "low": None, "high": None}
    assert {row["verdict"] for row in found["figures"]} == {"undecided"}
    assert {(row["p"], row["smallest_visible"], row["leaning"]) for row in found["figures"]} == {(None, None, None)}
    assert found["notes"][0].startswith("one run per side")
    assert found["differences"] == [{"name": "settings.max_batch_size", "a": None, "b": 16}]


def test_a_run_beside_itself_is_said(make: Make, capsys, monkeypatch) -> None:
    run = make("a")
    monkeypatch.chdir(run.parent)
    said = "A and B are the same runs, so nothing can differ"
    assert said in as_json(capsys, run, "a")["notes"]
    assert said not in as_json(capsys, run, make("b"))["notes"]


def test_for_people_settings_come_first_then_figures_then_where(make: Make, capsys) -> None:
    out = printed(capsys, make("a"), make("b", batch_16))
    places = [out.index(word) for word in ("settings.max_batch_size", "output_tokens_per_s", "mix: different steps")]
    assert places == sorted(places)
    assert "undecided" in out
    assert "95 %" not in out.partition("Where the difference comes from")[0].replace("95 % interval", "")
    assert max(map(len, out.splitlines())) <= 80


def test_other_work_is_refused_and_named_where_it_is_asked_for(make: Make, capsys) -> None:
    a, b = make("a"), make("b", lambda result: replace(result, workload_hash="def"))
    assert verb.main([str(a), str(b)]) == EXIT_REFUSED
    assert "--other-work" in capsys.readouterr().err
    assert as_json(capsys, a, b, "--other-work")["waived"] == ["the requests differ (workload abc and def)"]
    assert "! the requests differ" in printed(capsys, a, b, "--other-work")


@pytest.mark.parametrize(
    ("other", "told"),
    [(environment(cpu="another"), "cpu is a CPU for A, another for B"), (None, "the machine of B is unknown")],
)
def test_another_machine_is_refused_and_named_where_it_is_asked_for(make: Make, capsys, other, told) -> None:
    a, b = make("a"), make("b", lambda result: replace(result, environment=other))
    assert verb.main([str(a), str(b)]) == EXIT_REFUSED
    assert told in capsys.readouterr().err
    assert told in as_json(capsys, a, b, "--other-machine")["waived"][0]


def test_other_gpus_count_as_another_machine(make: Make) -> None:
    from innerloop.harness.schema.engine import Gpu

    def on(uuid: str) -> Callable[[Result], Result]:
        gpu = filled(Gpu, {"index": 0, "uuid": uuid, "name": "a GPU"})
        return lambda result: replace(
            result, spec=replace(result.spec, device="cuda"), environment=environment(gpus=(gpu,))
        )

    one, two = (Member(path, read_compared(path)) for path in (make("a", on("1")), make("b", on("2"))))
    with pytest.raises(Refused, match="the GPUs differ"):
        comparison([(one, two)], Question())
    assert comparison([(one, one)], Question(why=False)).waived == ()


def test_another_driver_or_power_limit_of_the_same_gpu_is_a_difference(make: Make) -> None:
    from innerloop.harness.schema.engine import Gpu
    from innerloop.harness.schema.telemetry import Device

    def on(driver: str, limit_w: float) -> Callable[[Result], Result]:
        gpu = filled(Gpu, {"index": 0, "uuid": "1", "name": "a GPU", "driver": driver})
        device = filled(Device, {"source": "gpu0", "power_limit_w": limit_w})
        return lambda result: replace(
            result,
            spec=replace(result.spec, device="cuda"),
            environment=environment(gpus=(gpu,)),
            telemetry=replace(result.telemetry, devices=(device,)),
        )

    a, b = (Member(path, read_compared(path)) for path in (make("a", on("570", 700.0)), make("b", on("580", 500.0))))
    found = {one.name: (one.a, one.b) for one in comparison([(a, b)], Question(why=False)).differences}
    assert found == {"gpus.0.driver": ("570", "580"), "power_limit_w.gpu0": (700.0, 500.0)}


def test_only_one_start_of_one_machine_goes_without_a_remark(make: Make) -> None:
    def restarted(result: Result) -> Result:
        return replace(result, environment=environment(host=filled(HostState, {**HOST, "boot_id": "another"})))

    a, b, c = (Member(path, read_compared(path)) for path in (make("a"), make("b"), make("c", restarted)))
    assert len(comparison([(a, b)], Question(why=False)).notes) == 1
    assert "on different machines" in comparison([(a, c)], Question(why=False)).notes[1]


def test_a_suspect_side_is_named_and_its_figures_are_marked(make: Make, capsys) -> None:
    a, b = make("a"), make("b", suspect)
    found = as_json(capsys, a, b)
    assert (found["a"]["status"], found["b"]["status"]) == ("ok", "suspect")
    doubtful = {row["name"]: row["doubtful"] for row in found["figures"]}
    assert doubtful["throughput.output_tokens_per_s"]
    assert not doubtful["latency_s.ttft.p50"]
    out = printed(capsys, a, b)
    assert "! B is suspect, cpu_stolen: the hypervisor took 9 %" in out
    assert "output_tokens_per_s *" in out


def test_a_reason_that_does_not_say_what_it_affects_makes_everything_doubtful(make: Make, capsys) -> None:
    def of_the_first_version(result: Result) -> Result:
        found = suspect(result)
        return replace(found, reasons=(replace(found.reasons[0], affects=()),))

    found = as_json(capsys, make("a"), make("b", of_the_first_version))
    assert {row["doubtful"] for row in found["figures"]} == {True}


def test_a_failed_run_is_refused(make: Make, capsys) -> None:
    failed = make("b", lambda result: replace(result, status="failed", failure=Failure("died", "it died")))
    assert verb.main([str(make("a")), str(failed)]) == EXIT_REFUSED
    assert "B failed" in capsys.readouterr().err


def test_what_is_no_run_is_refused(make: Make, tmp_path: Path, capsys) -> None:
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "none", ROOT / "tests/golden/first_version/ladder"):
        assert verb.main([str(make(f"a-{path.name}")), str(path)]) == EXIT_REFUSED
    assert "name one of its subfolders" in capsys.readouterr().err


def test_a_file_called_as_stdout_is_refused(make: Make, capsys, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert verb.main([str(make("a")), str(make("b")), "--markdown", "-"]) == EXIT_REFUSED
    assert "--markdown: stdout is not supported; name a file" in capsys.readouterr().err
    assert not (tmp_path / "-").exists()


def test_parts_add_up_and_steps_that_are_gone_are_said_to_be(make: Make, capsys) -> None:
    a, b = make("a"), make("b")
    why = as_json(capsys, a, b)["why"]
    assert why["difference_s"]["value"] == pytest.approx(0.0, abs=1e-15)
    assert why["matched_share"] == 1.0
    assert why["a_s"]["value"] == pytest.approx((50 * 0.039 + 49 * 0.001) / 400)
    (b / "steps.parquet").unlink()
    found = as_json(capsys, a, b)
    assert (found["why"], found["why_not"]) == (None, f"{b} has no recorded steps")
    assert as_json(capsys, a, b, "--no-why")["why_not"] == "--no-why was given"


def test_of_many_runs_the_records_of_one_at_a_time_are_in_memory(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = (Member(path, read_compared(path)) for path in (make("a"), make("b")))
    read: list[weakref.ref[Tables]] = []

    def reading(folder: Path) -> Tables:
        assert all(one() is None for one in read)
        tables = read_tables(folder)
        read.append(weakref.ref(tables))
        return tables

    monkeypatch.setattr("innerloop.harness.experiments.comparison.read_tables", reading)
    assert comparison([(a, b)] * 3, Question()).why is not None
    assert len(read) == 6


def test_blocks_have_intervals_verdicts_and_the_smallest_visible_difference(make: Make) -> None:
    speeds = (1.10, 1.12, 1.11, 1.10)
    base = make("a")
    blocks = []
    for k, speed in enumerate(speeds):
        changed = make(f"b{k}", lambda result, by=speed: faster(result, by))
        blocks.append((Member(base, read_compared(base)), Member(changed, read_compared(changed))))
    found = comparison(blocks, Question())
    first = found.figures[0]
    assert (first.verdict, found.trials, found.why is not None) == ("better", 4, True)
    assert first.ratio.low is not None
    assert first.ratio.low > 1.02
    assert first.smallest_visible is not None
    assert found.figures[1].verdict == "same"
    assert (
        found.trials_needed == 6
    )  # of 0.863 %: t(.975, 4) 0.863 / sqrt(5) = 1.07 %, t(.975, 5) 0.863 / sqrt(6) = 0.91 %
    assert not any("process" in note for note in found.notes)
    assert comparison(blocks, Question(margin=0.2)).figures[0].verdict == "same"


def test_metrics_by_their_last_parts() -> None:
    assert metric_named("output_tokens_per_s") == "throughput.output_tokens_per_s"
    assert metric_named("itl.p99") == "latency_s.itl.p99"
    for name in ("p99", "nothing"):
        with pytest.raises(Refused):
            metric_named(name)


def test_the_metric_comes_first(make: Make, capsys) -> None:
    found = as_json(capsys, make("a"), make("b"), "--metric", "itl.p50")
    assert found["figures"][0]["name"] == found["metric"] == "latency_s.itl.p50"


def test_a_quantile_of_too_few_values_is_a_dash_and_a_footnote(make: Make, capsys) -> None:
    """Runs of 8 requests: TTFT has 8 values."""
    a, b = make("a"), make("b")
    found = as_json(capsys, a, b, "--metric", "ttft.p99")
    first, nothing = found["figures"][0], {"value": None, "low": None, "high": None}
    assert (first["name"], first["verdict"], found["trials_needed"]) == ("latency_s.ttft.p99", "undecided", None)
    assert first["a"] == first["b"] == first["ratio"] == nothing
    assert first["reason"] == "p99 needs at least 100 values in each run; fewest: 8 in A, 8 in B"
    assert {one["name"]: one["reason"] for one in found["figures"]}["latency_s.ttft.p50"] is None
    assert "latency_s.ttft.p99" not in found["missing"]
    assert verb.main([str(a), str(b), "--no-why"]) == 0
    lines = capsys.readouterr().out.splitlines()
    [row] = [line for line in lines if line.strip().startswith("ttft.p99")]
    assert row.split() == ["ttft.p99", "-", "-", "-", "too", "few", "values"]
    assert "p99 needs at least 100 values in each run; fewest: 8 in A, 8 in B" in " ".join(" ".join(lines).split())


def test_margins_are_parts_or_percent(make: Make, capsys) -> None:
    a, b = make("a"), make("b")
    assert as_json(capsys, a, b, "--margin", "5%")["margin"] == 0.05
    for wrong in ("0", "100%", "x", "-1%"):
        with pytest.raises(SystemExit):
            verb.main([str(a), str(b), f"--margin={wrong}"])


def test_help_needs_neither_numpy_nor_pydantic() -> None:
    code = (
        "import sys; from innerloop.harness import compare\ntry: compare.main(['--help'])\nexcept SystemExit: pass\n"
        "print(sorted({'numpy', 'pydantic', 'pyarrow', 'rich'} & sys.modules.keys()), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_reports_need_no_pyarrow_where_steps_are_not_read(make: Make, capsys) -> None:
    a, b = make("a"), make("b")
    shutil.rmtree(a / "trace", ignore_errors=True)
    code = (
        "import sys; from innerloop.harness import compare\n"
        f"compare.main([{str(a)!r}, {str(b)!r}, '--no-why', '--json'])"
        "\nprint('pyarrow' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "False"


def test_what_would_tell_more_is_said_where_much_is_not_comparable() -> None:
    found = filled(Decomposition, {"matched_share": 0.1, "modelled_share": 0.2, "scatter": "trials"})
    assert held(found).endswith(
        "70.0 % in steps that only one side ran, whose cost on the other cannot be estimated: more requests, or longer "
        "windows, would tell more"
    )
    assert "cannot be estimated" not in held(replace(found, modelled_share=0.85))
    assert "cannot be estimated" not in held(replace(found, matched_share=None, modelled_share=0.0))


def test_what_differs_names_its_sides_on_a_narrow_terminal_too(make: Make, capsys, monkeypatch) -> None:
    def long(result: Result) -> Result:
        return replace(result, engine=replace(result.engine, effective={"path": "/a-long-folder" * 5}))

    for columns in ("80", "40"):  # a table, and columns below each other
        monkeypatch.setenv("COLUMNS", columns)
        out = printed(capsys, make(f"a{columns}"), make(f"b{columns}", long))
        assert {"A", "B", "settings.path"} <= {*out.partition("What differs")[2].partition("B vs. A")[0].split()}
