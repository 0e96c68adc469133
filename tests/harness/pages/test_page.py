"""Pages as files: everything that somebody else wrote is text in them, every label is defined, nothing is fetched."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import weakref
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from innerloop.harness import compare
from innerloop.harness.cli.errors import EXIT_REFUSED, Refused
from innerloop.harness.experiments.paged import pages_of
from innerloop.harness.export.__main__ import main as export
from innerloop.harness.pages import library
from innerloop.harness.pages.bundle import bundle
from innerloop.harness.pages.document import command_line, html, in_script
from innerloop.harness.pages.files import check
from innerloop.harness.pages.parts import Label, Row, Table, filled
from innerloop.harness.pages.repeat import command, files, words
from innerloop.harness.pages.speed import bounds, latency, speed
from innerloop.harness.pages.terms import OF_THE_SCHEMA, OWN, defined
from innerloop.harness.profiles import load_model, load_workload
from innerloop.harness.report.__main__ import main
from innerloop.harness.report.quantiles import left_out
from innerloop.harness.result.figures import PRIMARY
from innerloop.harness.schema.common import Summary
from innerloop.harness.schema.goodput import Goodput, Limit, LimitKept
from innerloop.harness.schema.profiling import Profiling
from innerloop.harness.schema.reasons import Failure, Reason
from innerloop.harness.schema.result import Result
from innerloop.harness.schema.roofline import NOT_ASKED, Roofline
from innerloop.harness.schema.verification import Verification
from innerloop.harness.session.arguments import parser, request_of
from innerloop.harness.store.tables import Tables, read_tables
from tests.harness.filled import filled as made_of
from tests.harness.made import suspect

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\x1b[31m\u202e'\"&"
pytest.importorskip("vl_convert")


class Elements(HTMLParser):
    """The elements of a page, by name, with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.found)


@pytest.fixture(scope="module", autouse=True)
def kept(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A cache of this module's own, so that the library is bundled once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INNERLOOP_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def hostile(result: Result) -> Result:
    spec = replace(result.spec, model=HOSTILE, workload=HOSTILE * 120, label={HOSTILE: HOSTILE}, note=HOSTILE)
    reason = Reason("cpu_stolen", "suspect", ("throughput",), HOSTILE, HOSTILE)
    return replace(result, spec=spec, status="suspect", reasons=(reason,), notes=(HOSTILE,))


@pytest.mark.slow
def test_hostile_names_are_text(make: Any, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert main([str(make("run", hostile)), "-o", str(page)]) == 0
    written = page.read_text()
    elements = Elements(written)
    assert elements.count("script") == 3  # the data, the library, the program
    assert elements.count("img") == 0
    assert "</script><script>alert(1)" in elements.text  # as it was written, shown
    assert "\x1b" not in written
    assert "\u202e" not in written


def test_a_page_may_run_its_own_scripts_only_and_load_nothing(make: Any, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    main([str(make("run")), "-o", str(page)])
    elements = Elements(page.read_text())
    [policy] = [one["content"] for name, one in elements.found if one.get("http-equiv")]
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "unsafe-inline" not in policy.partition("script-src")[2]
    assert not [one for name, one in elements.found if one.get("src") or name == "link"]


def test_every_label_leads_to_a_definition(make: Any, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    main([str(make("run")), "-o", str(page)])
    elements = Elements(page.read_text())
    ids = {one["id"] for _, one in elements.found if "id" in one}
    links = {one["href"] for name, one in elements.found if name == "a"}
    assert {str(link)[1:] for link in links} <= ids
    assert {"t-ttft", "t-decode_rate", "t-execute"} <= ids


def test_all_terms_are_defined() -> None:
    for term in (*OF_THE_SCHEMA, *OWN):
        assert defined(term).text


def test_data_cannot_end_its_script() -> None:
    written = in_script({"a": "</script><!-- \u2028 &"})
    assert not re.search("[<>&\u2028]", written)
    assert json.loads(written) == {"a": "</script><!-- \u2028 &"}


def test_the_library_cannot_end_its_script_and_is_kept() -> None:
    first = bundle()
    assert "</script" not in first
    assert "<!--" not in first
    assert "window.vegaEmbed" in first
    [path] = library_files()
    assert path.read_text() == bundle() == first
    path.write_text("cut")  # is not taken for one
    assert bundle() == first


def library_files() -> list[Path]:
    from innerloop.harness.machine import cache_folder

    return [*(cache_folder() / "pages").iterdir()]


def test_a_failed_run_has_a_page_that_says_why(make: Any, tmp_path: Path) -> None:
    why = Failure("engine_error", "it ran out of memory", 1, ("Traceback", "MemoryError"), ("the last line",))
    page = tmp_path / "page.html"
    main([str(make("run", lambda result: replace(result, status="failed", failure=why))), "-o", str(page)])
    text = Elements(page.read_text()).text
    for word in ("Failed: it ran out of memory", "MemoryError", "the last line", "exit code 1"):
        assert word in text


def test_the_page_lies_in_the_runs_folder_unless_told_otherwise(make: Any, capsys: Any) -> None:
    folder = make("run")
    assert main([str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == [str(folder / "report.html")]
    assert (folder / "report.html").stat().st_size < 2_000_000


def test_several_runs_share_a_page_with_an_overview(make: Any, tmp_path: Path) -> None:
    names = [str(make("one")), str(make("two"))]
    pages = pages_of(names)
    assert [page.name for page in pages] == ["overview", "one", "two"]
    assert pages[0].status == ""
    assert [chart.columns["run"] for chart in pages[0].charts() if chart.name == "speeds"] == [["one", "two"]]
    ids = [one["id"] for _, one in Elements(html(pages, "now")).found if "id" in one]
    assert len(ids) == len(set(ids))


def test_of_many_runs_the_records_of_those_that_are_drawn_together_stay_in_memory(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[weakref.ref[Tables]] = []

    def reading(folder: Path) -> Tables:
        assert sum(one() is not None for one in read) <= 3  # two, and the one whose page was made last
        tables = read_tables(folder)
        read.append(weakref.ref(tables))
        return tables

    monkeypatch.setattr("innerloop.harness.pages.source.read_tables", reading)
    for module in ("pages.several", "experiments.paged"):
        monkeypatch.setattr(f"innerloop.harness.{module}.MOST_CURVES", 2)
    pages = pages_of([str(make(f"run{k}")) for k in range(5)])
    assert len(read) == 5
    [curves] = [chart for chart in pages[0].charts() if chart.name == "itl-of-runs"]
    assert set(curves.columns["series"]) == {"run0", "run1"}
    assert curves.note == "Of the first 2 of 5 runs."
    assert all(any(chart.name == "latencies" for chart in page.charts()) for page in pages[1:])


def test_runs_of_the_same_name_have_numbers(make: Any, tmp_path: Path) -> None:
    one, other = make("one"), tmp_path / "elsewhere" / "one"
    shutil.copytree(one, other)
    [table] = [part for part in pages_of([str(one), str(other)])[0].sections[0].parts if isinstance(part, Table)]
    assert [row.label.text for row in table.rows] == ["one (1)", "one (2)"]


def test_an_overview_stands_as_the_worst_of_its_runs(make: Any) -> None:
    page = pages_of([str(make("one")), str(make("two", suspect)), str(make("three", suspect))])[0]
    assert (page.status, page.tone) == ("suspect", "warn")
    assert page.subtitle.endswith("2 suspect")


def test_a_comparison_has_a_page(experiment: Any, tmp_path: Path) -> None:
    options = {"metric": PRIMARY, "margin": 0.02, "other_work": False, "why": False}
    folder = experiment("e", options=options, A=[1.0, 1.01, 0.99, 1.0], B=[1.2, 1.21, 1.19, 1.2])
    [page] = pages_of([str(folder)])
    assert "output tokens/s is 20.0 % higher" in page.verdict
    assert page.verdict.endswith("B is faster.")
    ratios = next(chart for chart in page.charts() if chart.name == "ratios")
    assert ratios.columns["ratio"][0] == pytest.approx(20, abs=0.1)
    assert ratios.columns["low"][0] < 20 < ratios.columns["high"][0]
    options["metric"] = "latency_s.ttft.p99"  # the runs have 8 requests
    [page] = pages_of([str(experiment("few", options=options, A=[1.0, 1.0, 1.0], B=[1.0, 1.0, 1.0]))])
    why = "p99 needs at least 100 values in each run; fewest: 8 in A, 8 in B"
    assert page.status == "too few values"
    assert why in page.verdict
    [table] = [part for part in page.sections[0].parts if isinstance(part, Table)]
    assert (table.rows[0].label.text, table.rows[0].cells[0], table.rows[0].cells[-1]) == (
        "TTFT p99",
        "-",
        "too few values",
    )
    assert why in table.note


def test_stored_runs_are_compared_on_a_page(make: Any, tmp_path: Path, capsys: Any) -> None:
    page = tmp_path / "page.html"
    assert compare.main([str(make("a")), str(make("b")), "--html", str(page)]) == 0
    assert "What differs" in Elements(page.read_text()).text


def test_a_command_to_copy_is_what_it_is() -> None:
    """No space of it is another one, as between a number and its unit; no option is broken at its hyphens."""
    line = "innerloop run --label 'try=5 ms' --load-timeout 5m <a--b>"
    assert Elements(command_line(line)).text == line
    assert re.findall("<span>(.*?)</span>", command_line(line)) == ["--label", "--load-timeout"]


def test_a_run_names_the_command_that_repeats_it(make: Any) -> None:
    from innerloop.harness.store import result_file

    result = result_file.read(make("run"))
    spec = replace(
        result.spec,
        layer="engine",
        settings_given={"max_batch_size": 16},
        label={"try": "a b"},
        seeds={"content": 3},
        slo=(Limit("ttft", 0.99, 0.5),),
    )
    assert result.environment is not None
    assert result.environment.host is not None
    around = replace(result.environment, host=replace(result.environment.host, worker_cpus=(0, 2)))
    line = parser().parse_args(shlex.split(command(replace(result, spec=spec, environment=around)))[2:])
    assert (line.engine, line.layer, line.set, line.label) == ("vllm", "engine", ["max_batch_size=16"], ["try=a b"])
    assert request_of(line).seed == "content=3"
    assert line.slo == "ttft_p99=0.5s"
    assert (line.cpus, line.harness_cpus) == ("0,2", None)
    assert (line.ceilings, line.profiler, line.verify) == ("auto", None, False)
    more: dict[str, Any] = {
        "roofline": Roofline(NOT_ASKED),
        "profiling": made_of(Profiling, {"kind": "host"}),
        "verification": made_of(Verification, {}),
    }
    line = parser().parse_args(shlex.split(command(replace(result, **more)))[2:])
    assert (line.ceilings, line.profiler, line.verify) == ("off", "host", True)


def test_a_workload_and_a_model_of_ones_own_are_written_out(make: Any, tmp_path: Path) -> None:
    from innerloop.harness.store import result_file

    load, model = load_workload("quick"), load_model("qwen3-tiny")
    own = load.model_copy(update={"name": "chat", "title": "a\nEND_OF_FILE\nrm -rf /"})
    spec = replace(
        result_file.read(make("run")).spec,
        workload="chat", workload_profile=own.model_dump(mode="json"), workload_args={"load.requests": 3},
        model="my model", model_profile=model.model_dump(mode="json"),
    )  # fmt: skip
    lines = [*files(spec)]
    assert [one for one in lines if one.startswith("cat")] == [
        "cat > ./chat.yaml <<'END_OF_FILE'", "cat > './my model.yaml' <<'END_OF_FILE'",
    ]  # fmt: skip
    assert lines.count("END_OF_FILE") == 2  # the title's is set in
    line = parser().parse_args([*words(spec)])
    assert (line.workload, line.model, line.workload_arg) == ("./chat.yaml", "./my model.yaml", [])
    (tmp_path / "run.sh").write_text("\n".join(lines))
    subprocess.run(["sh", "run.sh"], cwd=tmp_path, check=True)
    assert load_workload(str(tmp_path / "chat.yaml")) == own
    assert load_model(str(tmp_path / "my model.yaml")) == model
    same = replace(spec, workload="one", model="one-1.5")
    assert [file for file in [*files(same)] if file.startswith("cat")] == [
        "cat > ./one.yaml <<'END_OF_FILE'", "cat > ./one-1.5.yaml <<'END_OF_FILE'",
    ]  # fmt: skip
    same = replace(same, model="one")
    line = parser().parse_args([*words(same)])
    assert (line.workload, line.model) == ("./one.yaml", "./one-model.yaml")
    changed = load_workload("quick", ["load.requests=3"]).model_dump(mode="json")
    shipped = replace(spec, workload="quick", workload_profile=changed, model="qwen3-tiny")
    assert [*files(shipped)] == []
    of_its_name = replace(shipped, workload_args={})  # a user's file that is called as one of innerloop's
    assert parser().parse_args([*words(of_its_name)]).workload == "./quick.yaml"


def test_what_had_not_ended_and_is_left_out_is_said(make: Any) -> None:
    from innerloop.harness.store import result_file

    result = result_file.read(make("run"))
    few, many = (made_of(Summary, {"count": 1000 - n, "unfinished": n}) for n in (10, 11))
    known = replace(result.latency_s, ttft=few, e2e=many)
    told = latency(replace(result, latency_s=known)).note
    assert told.endswith(" Left out, because they had not ended when the window closed: 10 of 1\u202f000 for TTFT.")
    assert left_out({"TTFT": many, "ITL": made_of(Summary, {"count": 5, "unfinished": 0})}) == ""


def test_a_median_without_an_interval_is_explained(make: Any) -> None:
    """Its quantiles further out have bounds: what changes is the whole distribution, and values are not few."""
    from innerloop.harness.store import result_file

    result = result_file.read(make("run"))
    for p50_ci, said in ((None, True), ((0.04, 0.05), False)):
        itl = made_of(Summary, {"p50": 0.041, "p50_ci": p50_ci, "p90_ci": (0.04, None), "count": 7948, "unfinished": 0})
        note = latency(replace(result, latency_s=replace(result.latency_s, itl=itl))).note
        assert ("values that change too much over the window" in note) is said


def test_an_interval_may_be_open_on_either_side() -> None:
    assert [bounds(one) for one in ((0.5, None), (None, 0.5), (0.5, 1.0), (None, None), None)] == [
        "≥ 500 ms", "≤ 500 ms", "500 ms – 1.00 s", "-", "-",
    ]  # fmt: skip


def test_limits_of_latency_are_on_the_page_as_in_the_report(make: Any) -> None:
    from innerloop.harness.store import result_file

    kept = LimitKept("ttft", 0.9, 0.2, judged=117, kept=117, share=1.0, low=0.968, high=1.0, clustering=1.0, holds=True)
    good = Goodput((kept,), due=117, good=107, share=107 / 117, requests_per_s=8.9)
    found = [
        part for part in speed(replace(result_file.read(make("run")), goodput=good)).parts if isinstance(part, Table)
    ]
    assert found[-1].rows[0].label.text == "ttft_p90 200 ms"
    assert found[-1].rows[0].cells == ["100.0 %", "96.8 % – 100.0 %", "117", "met"]
    assert "107 of 117 requests" in found[-1].note


@pytest.mark.slow
def test_pictures_and_markdown_lie_beside_each_other(make: Any, tmp_path: Path) -> None:
    folder, text = make("run", hostile), tmp_path / "run.md"
    assert main([str(folder), "--svg", str(tmp_path / "drawn"), "--markdown", str(text)]) == 0
    drawn = {path.name: path.read_text() for path in (tmp_path / "drawn").iterdir()}
    assert {"latencies.svg", "speed.svg", "phases-over-time.svg", "requests.svg"} <= drawn.keys()
    assert all(svg.startswith("<svg") for svg in drawn.values())
    written = text.read_text()
    assert "![" in written
    assert "(<drawn/latencies.svg>)" in written
    assert "| TTFT |" in written
    outside = re.sub(r"^(`{3,})$.*?^\1$", "", written, flags=re.M | re.S)  # in a block of code nothing is markup
    assert not re.search(r"(?<!\\)<(?!details>|/details>|summary>|/summary>|drawn/)", outside)
    assert not (folder / "report.html").exists()


def test_pictures_may_be_png(make: Any, tmp_path: Path) -> None:
    [page] = pages_of([str(make("run"))])
    [path] = library.write_pictures(page.charts()[:1], tmp_path / "drawn", "png")
    assert path.name == "latencies.png"
    assert path.read_bytes().startswith(b"\x89PNG")


def test_without_the_library_it_is_said_what_to_install(make: Any, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    folder = make("run")
    assert main([str(folder)]) == 2
    assert "pip install 'innerloop[pages]'" in capsys.readouterr().err
    assert main([str(folder), "--markdown", str(folder / "run.md")]) == 0  # tables need no library
    with pytest.raises(Refused):
        library.converter()


def test_a_page_that_cannot_be_written_is_refused_first(make: Any, tmp_path: Path, capsys: Any) -> None:
    assert main([str(make("run")), "-o", str(tmp_path / "none" / "page.html")]) == 2
    assert "--out" in capsys.readouterr().err


def test_columns_without_anything_are_left_out() -> None:
    table = Table([Label("a"), Label("b"), Label("c")], [Row(Label("x"), ["-", "1"]), Row(Label("y"), ["", "2"])])
    found = filled(table)
    assert [column.text for column in found.columns] == ["a", "c"]
    assert [list(row.cells) for row in found.rows] == [["1"], ["2"]]


def test_a_place_that_may_not_be_written_is_refused_before_anything_is_read(tmp_path, monkeypatch, capsys):
    """Of another user's run: with the way out, and of `run --html` before the run and not behind it."""
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(Refused, match=f"^--html: {tmp_path} may not be written to$") as refused:
        check([("--html", tmp_path / "page.html")], [])
    assert refused.value.details == ("--html names a file elsewhere",)
    (tmp_path / "job.json").write_text("{}")
    assert export([str(tmp_path), "--as", "steps"]) == EXIT_REFUSED
    assert capsys.readouterr().err == f"innerloop: {tmp_path} may not be written to\n  --out names a file elsewhere\n"
