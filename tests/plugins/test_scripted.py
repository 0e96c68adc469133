"""The scripted engine as a plug-in: its adapter, and its sessions in real time."""

from __future__ import annotations

import importlib.util
import itertools
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from innerloop.contract import Nothing, Probe, Request, Session, StepReport, UnsupportedSetting
from innerloop.harness.profiles.engines import EngineProfile
from tests.plugins.driving import drive, make_load, offline
from tests.plugins.scripted import PROFILE, adapter
from tests.plugins.scripted.formula import PHASES

FOLDER = Path(__file__).parent / "scripted"
MS = 1_000_000
HOW: list[dict[str, Any]] = [{}, {"pipeline": True}, {"observed": True}]


def opened(layer: str = "core", settings: dict[str, Any] | None = None, **engine_args: Any) -> Session:
    return adapter.open(make_load(layer, engine_args, **(settings or {})))


def run(session: Session, lengths: list[tuple[int, int]]) -> list[StepReport]:
    def wait(moment_ns: int) -> None:
        time.sleep(max(moment_ns - time.monotonic_ns(), 0) / 1e9)

    try:
        return drive(session, offline(lengths), time.monotonic_ns, wait)
    finally:
        session.close()


def submit(session: Session, request: int = 0, output: int = 4) -> None:
    session.submit(session.prepare(Request(request, [1, 2, 3], output)))


def test_it_loads_by_its_files_location_and_needs_only_numpy_and_the_contract():
    program = f"""if True:
        import importlib.util, sys
        names = set(sys.modules)
        spec = importlib.util.spec_from_file_location("_plugin", {str(FOLDER / "__init__.py")!r})
        module = importlib.util.module_from_spec(spec)
        sys.modules["_plugin"] = module
        spec.loader.exec_module(module)
        assert module.adapter.name == module.PROFILE["name"] == "scripted"
        from _plugin.simulate import simulate
        roots = {{name.partition(".")[0] for name in set(sys.modules) - names}}
        print(sorted(roots - sys.stdlib_module_names - {{"_plugin"}}))
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['innerloop', 'numpy']"
    assert importlib.util.find_spec("_plugin") is None


def test_its_profile_is_one_but_for_whose_interpreter_it_runs_in():
    cpu = dict(PROFILE["environments"]["cpu"])
    assert cpu.pop("interpreter") == "harness"
    profile = EngineProfile.model_validate({**PROFILE, "environments": {"cpu": cpu}})
    assert tuple(profile.layers) == adapter.layers


def test_its_arguments_are_the_common_settings_and_what_the_user_gives():
    arguments = adapter.arguments(make_load(engine_args={"step_us": 5}), Probe())
    assert arguments == {
        "context_length": 2048,
        "max_batch_size": 8,
        "max_tokens_per_step": 256,
        "kv_cache_tokens": 4096,
        "prefix_caching": False,
        "step_us": 5,
    }


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"quantization": "awq"}, "quantization=awq"),
        ({"tensor_parallel": 2}, "tensor_parallel=2"),
        ({"kv_memory_fraction": 0.5}, "set kv_cache_tokens"),
        ({"cuda_graphs": True}, "no CUDA graphs"),
        ({"layer": "http"}, "layer http"),
        ({"engine_args": {"seed": 1}}, "give --set seed"),
        ({"engine_args": {"max_batch_size": 4}}, "give --set max_batch_size"),
        ({"engine_args": {"step_ms": 4}}, "did you mean 'step_us'"),
        ({"engine_args": {"pipeline": True, "observed": True}}, "choose one"),
        ({"engine_args": {"fault": "flood"}}, "no such fault"),
        ({"engine_args": {"fault": "raise", "fault_at": "night"}}, "fault_at=night"),
    ],
)
def test_what_it_cannot_honour_is_refused_before_it_is_loaded(changes, words):
    for ask in (lambda load: adapter.arguments(load, Probe()), adapter.imports, adapter.open):
        with pytest.raises(UnsupportedSetting, match=words):
            ask(make_load(**changes))


def test_it_says_what_it_made_of_the_settings():
    info = opened(settings={"kv_cache_tokens": 100}).info
    assert info.stepping == "driven"
    assert info.kv_cache_tokens == info.effective["kv_cache_tokens"] == 112  # whole blocks of 16
    assert info.unreported == adapter.unreported(make_load()) == ()
    assert opened(pipeline=True).info.effective["async_scheduling"] is True
    session = opened(observed=True)
    session.close()
    assert session.info.stepping == "observed"


@pytest.mark.parametrize("how", HOW)
def test_every_request_gets_its_tokens_and_every_field_is_reported(how):
    lengths = [(5, 3), (300, 6), (1, 1), (40, 12)]
    reports = run(opened(**how, draft_tokens=1), lengths)
    given = [0] * len(lengths)
    for report in reports:
        for request, ids in report.tokens:
            given[request] += len(ids)
    assert given == [output for _, output in lengths]
    assert sorted(request for report in reports for request in report.finished) == [0, 1, 2, 3]
    fields = [name for name in StepReport.__dataclass_fields__ if name not in ("token_ns", "log_probabilities")]
    assert [name for report in reports for name in fields if getattr(report, name) is None] == []
    assert all(report.token_ns is None for report in reports)


@pytest.mark.parametrize("how", HOW)
def test_no_step_is_shorter_than_the_formula_nor_than_its_phases_and_none_overlap(how):
    reports = run(opened("async", step_us=2000, layer_us=500, **how), [(5, 4)] * 2)
    for report in reports:
        phases = [getattr(report, f"{phase}_ns") for phase in PHASES]
        assert report.end_ns - report.start_ns >= 2 * MS + 2 * MS // 2
        assert 0.95 * 2 * MS < sum(phases) <= report.end_ns - report.start_ns - 2 * MS // 2
    assert all(before.end_ns <= after.start_ns for before, after in itertools.pairwise(reports))


def test_a_driven_step_is_whole_and_is_not_begun_too_late():
    session = opened(step_us=20_000)
    submit(session)
    assert session.step(time.monotonic_ns()) is Nothing.TIMED_OUT
    while not isinstance(report := session.step(time.monotonic_ns() + 5 * MS), StepReport):
        pass  # this process was held up for longer than that
    assert report.end_ns - report.start_ns >= 20 * MS
    assert session.has_work()


@pytest.mark.parametrize("how", HOW[1:])
def test_a_step_that_only_waits_returns_when_it_has_to_and_not_before(how):
    session = opened(step_us=10**9, **how)
    submit(session)
    begun, outcomes = time.monotonic_ns(), []
    for n in (1, 2, 3):
        outcomes.append(session.step(begun + n * 5 * MS))
        if outcomes[-1] is Nothing.TIMED_OUT:
            assert time.monotonic_ns() >= begun + n * 5 * MS
    assert outcomes[1:] == [Nothing.TIMED_OUT] * 2  # the first call of a pipeline fills it
    assert session.has_work()


def test_without_work_nothing_is_waited_for():
    for how in HOW:
        session = opened(**how)
        assert not session.has_work()
        assert session.step(None) is Nothing.FLUSHED
        session.close()


def test_a_pipeline_is_filled_first_and_flushed_last():
    session = opened(pipeline=True)
    submit(session, output=2)
    assert session.step(None) is Nothing.FILLED
    first, second = session.step(None), session.step(None)
    assert isinstance(first, StepReport)
    assert isinstance(second, StepReport)
    assert (first.prefill_tokens, first.decode_tokens) == (3, 0)
    assert (second.prefill_tokens, second.decode_tokens, second.finished) == (0, 1, [0])
    assert session.has_work()
    assert session.step(None) is Nothing.FLUSHED
    assert not session.has_work()


@pytest.mark.parametrize("how", HOW)
def test_its_caches_can_be_emptied_between_windows(how):
    session = opened(settings={"prefix_caching": True}, kv_block_tokens=2, **how)
    cached = []
    for request, reset in enumerate((False, False, True)):
        if reset:
            assert session.reset_caches()
        submit(session, request, output=1)
        while not isinstance(report := session.step(None), StepReport):
            pass
        cached.append(report.cached_tokens)
    assert cached == [0, 2, 0]
    session.close()


def test_an_error_of_the_engines_own_thread_reaches_the_caller():
    session = opened(observed=True)
    session.submit(session.prepare(Request(0, [1] * 3000, 1)))
    with pytest.raises(RuntimeError, match="3001 tokens; context_length is 2048"):
        session.step(None)
    session.close()
