"""Tests that one test process runs, since they read the same runs or have the same interpreters run their scripts."""

from __future__ import annotations

from fnmatch import fnmatchcase

GROUPS = {  # by patterns of test ids; those that take longest first
    "scripts": (
        "tests/harness/models/*_real.py::*", "tests/harness/checkpoints/*_real.py::*",
        "tests/engines/vllm/test_async_scheduling.py::*", "tests/engines/vllm/test_stepped.py::*",
        "tests/harness/environments/test_environments.py::test_the_real_engines*",
        "tests/harness/environments/test_parameters_real.py::*",
    ),
    "ladder": ("tests/harness/experiments/test_layers.py::*", "tests/engines/vllm/test_attached.py::*",
               "tests/golden/test_real.py::*ladder*"),
    "whole runs": (
        "tests/harness/test_run.py::*", "tests/harness/test_profile.py::*", "tests/golden/test_real.py::*",
        "tests/harness/test_verify_real.py::test_vllm_passes", "tests/engines/vllm/test_ranks.py::*",
        "tests/harness/ceilings/test_ceilings.py::test_the_ceilings_of_this_cpu_are_measured_and_kept",
    ),
    "cluster": ("tests/harness/experiments/test_cluster.py::*",),  # two nodes compute
    "devices": ("tests/harness/test_devices.py::*",),  # beside it: most of it waits for waveforms
    "failures": ("tests/harness/test_failures.py::*",),  # most of it waits for processes to end
}  # fmt: skip


def group_of(test: str) -> str:
    """The name of the group that a test belongs to, its file's where it belongs to none."""
    found = (name for name, patterns in GROUPS.items() if any(fnmatchcase(test, pattern) for pattern in patterns))
    return next(found, test.partition("::")[0])


def place_of(test: str) -> int:
    """The place of a test's group."""
    group = group_of(test)
    return [*GROUPS].index(group) if group in GROUPS else len(GROUPS)
