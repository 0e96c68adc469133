"""Suites as data: those that are shipped can be made into runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from innerloop.harness import sweep
from innerloop.harness.cli.errors import EXIT_REFUSED, Refused
from innerloop.harness.experiments.axes import matches, parsed, points_of_suite
from innerloop.harness.profiles import load_model, load_workload, names
from innerloop.harness.profiles.engines import load_engine
from innerloop.harness.profiles.suites import load_suite


@pytest.mark.parametrize("name", names("suites"))
def test_every_point_of_a_shipped_suite_names_what_there_is(name: str) -> None:
    for point in points_of_suite(*load_suite(name)):
        arguments = parsed(point.words)
        load_engine(arguments.engine)
        load_model(arguments.model, arguments.model_arg)
        load_workload(arguments.workload, arguments.workload_arg)


def test_the_study_has_every_engine_model_and_load_of_its_source() -> None:
    suite, source = load_suite("study")
    points = points_of_suite(suite, source)
    assert len(points) == 7 * 2 * 6
    assert suite.published is not None
    for quoted in suite.published.figures:
        assert [point for point in points if matches(point.at, quoted.at)], quoted
    small = points_of_suite(*load_suite("study-small"))
    assert {point.at["engine"] for point in small} >= {"vllm", "torch"}
    assert len({point.at["workload"] for point in small}) == 6


def test_a_suite_that_is_not_there_or_is_wrong_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no suite 'studdy'; did you mean 'study'"):
        load_suite("studdy")
    with pytest.raises(Refused, match="there is no file"):
        load_suite("x/y.yaml")
    path = tmp_path / "mine.yaml"
    path.write_text("gird: {engine: [vllm]}\n")
    with pytest.raises(Refused, match="no field gird"):
        load_suite(str(path))
    path.write_text("grid: {engine: [vllm]}\ntrials: 0\n")
    with pytest.raises(Refused, match="trials is 0"):
        load_suite(str(path))


def test_a_file_that_is_not_there_is_named_as_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sweep.main(["batch.yaml", "--dry-run"]) == EXIT_REFUSED
    assert capsys.readouterr().err == "innerloop: there is no file batch.yaml\n"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("title: of https://me:k-1@host/x", "title"),
        ("description: made with --api-key k-1", "description"),
        ("points: [{set.dtype: float32}, {weights: 'https://me:k-1@host/x'}]", r"points\[1\].weights"),
        ("base: {engine_arg.api_key: k-1}", "base.engine_arg.api_key"),
    ],
)
def test_a_suite_that_holds_a_credential_is_refused_since_it_is_stored(tmp_path: Path, text: str, place: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"{text}\n")
    with pytest.raises(Refused, match=f"mine.yaml: {place} looks like a credential") as refused:
        load_suite(str(path))
    assert "k-1" not in " ".join((str(refused.value), *refused.value.details))
