from __future__ import annotations

import pytest

from innerloop.engines.profiling.windows import Window
from innerloop.harness.cli.errors import Refused
from innerloop.harness.profiling.choice import DEFAULT, KINDS, choose


def test_without_a_profile_there_is_no_pass():
    assert choose(None, None) is None


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_steps_of_its_own_accord(kind):
    found = choose(kind, None)
    assert found is not None
    assert found.windows == DEFAULT[kind][1]
    assert Window(**found.describe()["windows"][0]) == found.windows[0]  # as the worker reads it


def test_named_numbers_are_a_window_of_their_own():
    found = choose("nsys", "200:260")
    assert found is not None
    assert found.windows == (Window(opens=200, counts="any", steps=60),)


@pytest.mark.parametrize(
    ("steps", "opens", "counts"),
    [("prefill", "start", "prefill"), ("decode", "decode", "decode"), ("steady", "full", "any")],
)
def test_steps_can_be_named_by_what_is_in_them(steps, opens, counts):
    for kind in KINDS:
        found = choose(kind, steps)
        assert found is not None
        assert (found.windows[0].opens, found.windows[0].counts) == (opens, counts)


def test_ncu_which_replays_every_kernel_takes_one_step_at_a_time():
    for steps in (None, "prefill", "decode", "steady"):
        found = choose("ncu", steps)
        assert found is not None
        assert found.windows[0].steps == 1


@pytest.mark.parametrize(
    ("kind", "steps", "words"),
    [
        ("kernel", None, "did you mean 'kernels'"),
        ("kernels", "decoding", "did you mean 'decode'"),
        ("kernels", "60:20", "no step"),
        ("kernels", "5:5", "no step"),
        ("kernels", "-3:5", "A:B"),
        (None, "decode", "--profile"),
    ],
)
def test_what_cannot_be_meant_is_refused(kind, steps, words):
    with pytest.raises(Refused, match=words):
        choose(kind, steps)
