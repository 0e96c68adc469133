from __future__ import annotations

import copy
import io
from typing import Any

import pytest

from innerloop.harness.analysis.kernel_classes import CLASSES
from innerloop.harness.cli.console import PlainConsole
from innerloop.harness.report.kernels import profile
from innerloop.harness.schema.result import Result
from tests.harness.filled import filled


def parts(gemm: int, copies: int) -> dict[str, Any]:
    whole = gemm + copies
    spent = {**dict.fromkeys(CLASSES, 0), "gemm": gemm, "copies": copies}
    return {
        name: {"ns": ns, "share": ns / whole if whole else None, "launches": 2 if ns else 0}
        for name, ns in spent.items()
    }


def top(name: str) -> dict[str, Any]:
    return {"name": name, "kernel_class": "gemm", "ns": 900, "share": 0.9, "launches": 12, "mean_s": 75e-6}


RESULT: dict[str, Any] = {
    "throughput": {"output_tokens_per_s": 900.0},
    "time_share": {"steps": 0.98, "bubbles": 0.0, "idle": 0.02},
    "spec": {"workload_profile": {"load": {"kind": "closed", "users": 10}}},
    "profiling": {
        "kind": "kernels",
        "steps": "prefill, then decode",
        "folder": "profile-kernels",
        "seconds": 23.0,
        "captured": {"steps": {"all": 12, "with_prefill": 2, "decode_only": 10}, "ranges": [[0, 6], [40, 46]]},
        "slowdown": {"with_prefill": 1.05, "decode_only": 1.31},
        "failure": None,
        "notes": [],
        "host": None,
    },
    "kernels": {
        "device": "cuda",
        "steps": {"all": 12, "with_prefill": 2, "decode_only": 10},
        "busy_s_per_step": {"all": 0.01, "with_prefill": 0.02, "decode_only": 0.008},
        "launches_per_step": {"all": 300.0, "with_prefill": 400.0, "decode_only": 280.0},
        "idle_share": {"all": 0.25, "with_prefill": 0.1, "decode_only": 0.3},
        "idle_gaps_s": {"count": 131, "p50": 2e-6, "p99": 5e-5, "max": 1e-3},
        "total_ns": {"all": 120_000_000, "with_prefill": 40_000_000, "decode_only": 80_000_000},
        "classes": {
            "all": parts(110_000_000, 10_000_000),
            "with_prefill": parts(40_000_000, 0),
            "decode_only": parts(70_000_000, 10_000_000),
        },
        "top": {"with_prefill": [top("nvjet_prefill")], "decode_only": [top("nvjet_decode[bold]" + "x" * 200)]},
        "unknown_names": ["a_kernel_that_nobody_knows"],
        "estimate": {"busy_s": 5.0, "output_tokens_per_s": 1234.0, "covered_share": 0.9, "reason": None},
    },
}  # fmt: skip


def shown(width: int = 80, **changes: Any) -> str:
    result = copy.deepcopy(RESULT)
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = result
        for parent in parents:
            place = place[parent]
        place[last] = value
    out = io.StringIO()
    typed = filled(Result, result)
    assert typed.profiling is not None
    PlainConsole(file=out, width=width).print(profile(typed, typed.profiling))
    return out.getvalue()


def row(text: str, label: str) -> str:
    return " ".join(next(line for line in text.splitlines() if line.strip().startswith(label)).split())


def test_prefill_and_decode_are_apart_and_add_up():
    text = shown()
    assert row(text, "kernel time per step") == "kernel time per step with prefill share decode only share"
    assert row(text, "total") == "total 20.0 ms 100.0 % 8.00 ms 100.0 %"
    assert row(text, "GEMM") == "GEMM 20.0 ms 100.0 % 7.00 ms 87.5 %"
    assert row(text, "copies") == "copies 0 s 0.0 % 1.00 ms 12.5 %"
    assert "attention" not in text  # of which there was none
    assert row(text, "launches per step") == "launches per step 400 280"
    assert row(text, "idle within steps").endswith("10.0 % - 30.0 %")


def test_what_ran_and_what_it_cost_comes_first():
    text = " ".join(shown().split())
    assert "steps 0:6, 40:46 of a second run (23.0 s), in profile-kernels: 2 with prefill, 10 decode only" in text
    assert "1.05 x with prefill, 1.31 x decode only" in text


def test_a_quantile_of_too_few_gaps_is_a_dash():
    assert "(131 gaps): p50 2.00 µs, p99 50.0 µs, longest 1.00 ms" in " ".join(shown().split())
    text = " ".join(shown(kernels__idle_gaps_s__count=31).split())
    assert "(31 gaps): p50 2.00 µs, p99 -, longest 1.00 ms" in text


def test_the_estimate_stands_beside_what_was_measured():
    text = " ".join(shown().split())
    assert "kernel throughput: 1 234 output tokens/s if the device were never idle (measured: 900)" in text
    assert "captured steps cover 90.0 % of the run" in text
    assert 'in "other": a_kernel_that_nobody_knows' in text


@pytest.mark.parametrize("width", [80, 120, 200])
def test_no_line_is_wider_than_the_terminal(width):
    assert max(len(line.rstrip()) for line in shown(width).splitlines()) <= width


@pytest.mark.parametrize(
    "changes", [{"spec__workload_profile__load": {"kind": "open", "rate_per_s": 4}}, {"time_share__idle": 0.06}]
)
def test_a_rate_that_the_load_set_does_not_stand_beside_the_kernels(changes):
    assert "kernel throughput: 1 234 output tokens/s if the device were never idle (measured: 900);" in one_line(
        shown()
    )
    assert (
        "kernel throughput: 1 234 output tokens/s if the device were never idle; captured steps cover 90.0 %"
        in one_line(shown(**changes))
    )


def one_line(text: str) -> str:
    return " ".join(text.split())


def test_what_the_pass_remarked_is_shown():
    assert "note: steps with a full batch did not come" in shown(
        profiling__notes=["steps with a full batch did not come"]
    )


def test_names_are_shown_as_they_are():
    assert "nvjet_decode[bold]" in shown()


@pytest.mark.parametrize("width", [80, 120])
def test_a_long_name_gives_way_to_the_figures(width):
    text = shown(width)
    assert row(text, "nvjet_decode").endswith("GEMM 90.0 % 75.0 µs 12")
    assert "…: a longer name; result.json has all of it" in text
    host = {
        "rate_hz": 100, "samples": 20, "errors": 0, "behind_s": 0.0, "threads": [],
        "top": [{"name": "f" * 200, "self_share": 0.6, "total_share": 0.7}],
    }  # fmt: skip
    told = shown(width, profiling__host=host, kernels=None)
    assert row(told, "fff").endswith("60.0 % 70.0 %")
    assert "…: a longer name" in told


def test_a_name_that_nobody_knows_is_shortened():
    assert "x" * 63 + "…" in shown(kernels__unknown_names=["x" * 160])


def test_where_prefill_is_not_told_there_is_one_column():
    kinds = {"all": 12, "with_prefill": 0, "decode_only": 0}
    text = shown(kernels__steps=kinds, profiling__captured__steps=kinds, kernels__top={"all": [top("nvjet")]})
    assert row(text, "total") == "total 10.0 ms 100.0 %"


def test_a_failed_pass_says_why():
    text = shown(
        profiling__failure={"cause": "profile", "message": "no steps were captured"},
        profiling__captured=None,
        kernels=None,
    )
    assert "the profiling pass failed (profile): no steps were captured" in text


def test_an_estimate_that_there_is_none_of_says_why():
    none = {"busy_s": None, "output_tokens_per_s": None, "covered_share": None, "reason": "no steps were measured"}
    assert "no kernel throughput: no steps were measured" in shown(kernels__estimate=none)


def test_the_host_s_functions_are_shown_with_how_late_the_samples_were():
    host = {
        "rate_hz": 100, "samples": 2050, "errors": 0, "behind_s": 3.86,
        "threads": [], "top": [{"name": "schedule (scheduler.py)", "self_share": 0.6, "total_share": 0.7}],
    }  # fmt: skip
    text = shown(profiling__host=host, kernels=None)
    assert "2 050 samples at 100 Hz, up to 3.86 s late; 0 errors" in " ".join(text.split())
    assert row(text, "schedule").endswith("60.0 % 70.0 %")
