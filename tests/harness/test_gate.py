"""`innerloop gate` and `compare --fail-if`: exit codes, what is printed, and the files for CI systems."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from innerloop.harness import compare, gate
from innerloop.harness.cli.errors import EXIT_OK, EXIT_REFUSED, EXIT_UNDECIDED, EXIT_WORSE
from innerloop.harness.schema.result import Result
from tests.harness.made import SPEEDS, Make, faster, suspect


@pytest.mark.parametrize(
    ("speeds", "words", "code"),
    [
        (SPEEDS, [], EXIT_OK),
        ([0.9 * one for one in SPEEDS], [], EXIT_WORSE),
        ([1.1 * one for one in SPEEDS], [], EXIT_OK),
        ([0.97 * one for one in SPEEDS], ["--margin", "3.1%"], EXIT_UNDECIDED),
        ([0.97 * one for one in SPEEDS], ["--margin", "3.1%", "--allow-undecided"], EXIT_OK),
        (SPEEDS, ["--fail-if", "output_tokens_per_s < 150"], EXIT_OK),
        (SPEEDS, ["--fail-if", "output_tokens_per_s < 250"], EXIT_WORSE),
        (SPEEDS, ["--fail-if", "output_tokens_per_s < 150", "--fail-if", "itl.p50 > 1 ms"], EXIT_WORSE),
        (SPEEDS, ["--fail-if", "itl.p50 > 1.05 * baseline"], EXIT_OK),
    ],
)
def test_stored_trials_pass_or_fail(experiment, speeds, words, code, capsys) -> None:
    base, other = experiment("base", trials=SPEEDS[::-1]), experiment("new", trials=speeds)
    assert gate.main([str(base), str(other), "--no-why", *words]) == code
    out = capsys.readouterr().out
    assert {EXIT_OK: "Gate: PASSED", EXIT_WORSE: "Gate: FAILED", EXIT_UNDECIDED: "Gate: UNDECIDED"}[code] in out
    assert "measured one after the other" in " ".join(out.split())


def test_one_experiment_has_both_sides(experiment) -> None:
    assert gate.main([str(experiment("same", A=SPEEDS, B=SPEEDS)), "--no-why"]) == EXIT_OK
    assert gate.main([str(experiment("slow", A=SPEEDS, B=[0.8] * 4)), "--no-why"]) == EXIT_WORSE


def test_one_run_a_side_cannot_be_told(make: Make) -> None:
    a, b = make("a"), make("b", lambda result: faster(result, 0.5))
    assert gate.main([str(a), str(b), "--no-why"]) == EXIT_UNDECIDED
    assert gate.main([str(a), str(b), "--no-why", "--allow-undecided"]) == EXIT_OK


def test_a_suspect_side_fails_unless_it_is_allowed_and_is_named_then(experiment, capsys) -> None:
    base, other = experiment("base", trials=SPEEDS), experiment("new", then=suspect, trials=SPEEDS)
    words = [str(base), str(other), "--no-why"]
    assert gate.main(words) == EXIT_UNDECIDED
    assert gate.main([*words, "--allow-undecided"]) == EXIT_UNDECIDED
    capsys.readouterr()
    assert gate.main([*words, "--allow-suspect"]) == EXIT_OK
    out = " ".join(capsys.readouterr().out.split())
    assert "undecided, allowed" in out
    assert "a suspect run makes this metric doubtful" in out
    assert gate.main([*words, "--fail-if", "itl.p50 > 2 * baseline"]) == EXIT_OK  # the doubt concerns throughput


def test_more_runs_on_one_side_are_left_out_and_said_to_be(experiment, capsys) -> None:
    base, other = experiment("base", trials=(*SPEEDS, 1.0)), experiment("new", trials=SPEEDS)
    assert gate.main([str(base), str(other), "--no-why"]) == EXIT_OK
    assert "1 run of A is not used" in " ".join(capsys.readouterr().out.split())


def test_other_work_and_another_machine_are_refused(make: Make, capsys) -> None:
    b = make("b", lambda result: replace(result, workload_hash="def"))
    assert gate.main([str(make("a")), str(b), "--allow-undecided", "--allow-suspect"]) == EXIT_REFUSED
    assert gate.main([str(make("c")), str(b), "--no-why", "--other-work", "--allow-undecided"]) == EXIT_OK
    assert "the requests differ" in capsys.readouterr().out


def test_an_experiment_of_several_things_is_named_alone(experiment, make: Make, capsys) -> None:
    both = experiment("both", A=SPEEDS, B=SPEEDS)
    assert gate.main([str(both), str(make("b"))]) == EXIT_REFUSED
    assert "contains runs of A and B" in capsys.readouterr().err
    assert gate.main([str(make("c"))]) == EXIT_REFUSED
    assert "is not an experiment" in capsys.readouterr().err


def test_a_quantile_of_too_few_values_cannot_be_told(experiment, tmp_path: Path, capsys) -> None:
    """Runs of 8 requests: TTFT has 8 values."""
    base, other = str(experiment("base", trials=SPEEDS)), str(experiment("new", trials=SPEEDS))
    page = tmp_path / "gate.md"
    assert gate.main([base, other, "--no-why", "--metric", "ttft.p99", "--markdown", str(page)]) == EXIT_UNDECIDED
    out = " ".join(capsys.readouterr().out.split())
    why = "p99 needs at least 100 values in each run; fewest: 8 in A, 8 in B"
    assert f"latency_s.ttft.p99: {why}; run more requests, or choose a lower quantile" in out
    assert why in page.read_text()
    assert "more trials narrow the intervals" not in out
    words = [base, other, "--no-why", "--fail-if", "ttft.p99 > 50 ms", "--fail-if", "ttft.p50 > 99 s", "--json"]
    assert gate.main(words) == EXIT_UNDECIDED
    tail, median = json.loads(capsys.readouterr().out)["conditions"]
    assert (tail["outcome"], tail["value"]["value"], median["outcome"]) == ("cannot tell", None, "passed")
    assert tail["reason"].startswith(why)
    assert gate.main([*words, "--allow-undecided"]) == EXIT_OK


def test_words_that_do_not_go_together_are_refused(make: Make, tmp_path: Path) -> None:
    a, b = str(make("a")), str(make("b"))
    for words in (
        [a, b, "--junit", str(tmp_path / "j.xml")],
        [a, b, "--allow-undecided"],
        [a, b, "--allow-suspect"],
        [a, b, "--effect", "3%"],
        [a, b, "--fail-if", "nothing < 3"],
        [a, b, "--markdown", str(tmp_path)],
        [a, b, "--markdown", str(tmp_path / "none" / "x.md")],
    ):
        assert compare.main([*words, "--no-why"]) == EXIT_REFUSED, words


def test_compare_has_the_codes_of_a_gate_only_where_conditions_are_given(experiment) -> None:
    slow = str(experiment("slow", A=SPEEDS, B=[0.8] * 4))
    assert compare.main([slow, "--no-why"]) == EXIT_OK
    assert compare.main([slow, "--no-why", "--fail-if", "output_tokens_per_s < 0.97 * baseline"]) == EXIT_WORSE


def test_the_document_holds_conditions_and_comparison(experiment, capsys) -> None:
    slow = str(experiment("slow", A=SPEEDS, B=[0.8 * one for one in SPEEDS]))
    assert gate.main([slow, "--no-why", "--json"]) == EXIT_WORSE
    found = json.loads(capsys.readouterr().out)
    assert (found["kind"], found["outcome"], found["comparison"]["kind"]) == ("gate", "failed", "comparison")
    [one] = found["conditions"]
    assert one["text"] == "throughput.output_tokens_per_s < 0.98 * baseline"
    assert one["value"]["value"] == pytest.approx(0.8)
    assert (one["outcome"], one["waived"]) == ("failed", False)


def test_files_for_ci_systems(experiment, tmp_path: Path) -> None:
    def labelled(result: Result) -> Result:
        return replace(result, spec=replace(result.spec, workload="a|b *c* <img>"))

    slow = str(experiment("slow", then=labelled, A=SPEEDS, B=[0.8 * one for one in SPEEDS]))
    summary, tests = tmp_path / "s.md", tmp_path / "t.xml"
    words = ["--fail-if", "output_tokens_per_s < 0.97 * baseline", "--fail-if", "itl.p50 > 2 * baseline"]
    files = ["--markdown", str(summary), "--junit", str(tests)]
    assert gate.main([slow, *words, *files]) == EXIT_WORSE
    text = summary.read_text()
    assert text.startswith("## innerloop gate: failed\n")
    assert "a\\|b \\*c\\* \\<img\\>" in text
    assert "mix: different steps" in text
    suite = ElementTree.parse(tests).getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("2", "1", "0")
    assert [len(case.findall("failure")) for case in suite] == [1, 0]
    assert suite[0].get("name") == "fails if output_tokens_per_s < 0.97 * baseline"


def test_markdown_needs_no_condition(make: Make, tmp_path: Path) -> None:
    summary = tmp_path / "s.md"
    assert compare.main([str(make("a")), str(make("b")), "--markdown", str(summary)]) == EXIT_OK
    assert summary.read_text().startswith("## innerloop compare\n")


def test_markdown_names_a_doubt_of_several_runs_once(experiment, tmp_path: Path) -> None:
    summary = tmp_path / "s.md"
    folder = experiment("e", then=suspect, A=SPEEDS[:3], B=SPEEDS[:3])
    assert compare.main([str(folder), "--markdown", str(summary)]) == EXIT_OK
    [of_a] = [line for line in summary.read_text().splitlines() if line.startswith("- **Note**: A is suspect")]
    assert of_a.endswith("3 of 3 runs)")
