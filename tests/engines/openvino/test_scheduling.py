"""What OpenVINO's scheduler computes, worked out by hand; the real one is followed in test_real.py."""

from __future__ import annotations

from typing import Any

from innerloop.engines.openvino.scheduling import FollowedScheduler, Scheduled, blocks_for


def scheduler(*prompts: int, **limits: Any) -> FollowedScheduler:
    """With requests 0, 1, ... of these prompts."""
    given = {"step_tokens": 64, "batch": 8, "blocks": 100, "split": True, **limits}
    made = FollowedScheduler(**given)
    for number, prompt in enumerate(prompts):
        made.add(number, prompt)
    return made


def positions(step: Scheduled) -> tuple[int, int]:
    return step.prefill, step.decode


def test_a_prompt_longer_than_a_step_gets_its_token_with_the_last_part():
    one = scheduler(50, step_tokens=32)
    first, second, third = one.step(), one.step(), one.step()
    assert [positions(step) for step in (first, second, third)] == [(32, 0), (18, 0), (0, 1)]
    assert [step.with_token for step in (first, second, third)] == [set(), {0}, {0}]
    assert [step.used_blocks for step in (first, second, third)] == [1, 2, 2]


def test_split_prompts_get_what_running_requests_leave_of_a_step():
    one = scheduler(10, step_tokens=32)
    one.step()
    one.add(1, 40)
    assert [positions(one.step()) for _ in range(3)] == [(31, 1), (9, 1), (0, 2)]


def test_whole_prompts_come_before_running_requests_and_keep_to_the_batch():
    one = scheduler(10, 10, 10, split=False, batch=2)
    first, second = one.step(), one.step()
    assert (positions(first), first.with_token) == ((20, 0), {0, 1})
    assert (positions(second), second.running) == ((0, 2), 2)
    one.remove(0)
    third = one.step()
    assert (positions(third), third.with_token) == ((10, 0), {2})


def test_a_whole_prompt_waits_for_a_step_that_has_room_for_it():
    one = scheduler(40, 30, split=False)
    assert [positions(one.step()) for _ in range(3)] == [(40, 0), (30, 0), (0, 2)]


def test_a_request_that_needs_a_block_takes_a_later_ones():
    one = scheduler(32, 32, blocks=3)
    assert one.step().used_blocks == 2
    for _ in range(32):  # request 0 has the third block; request 1, which comes last, can take none
        step = one.step()
        assert (step.with_token, step.preempted, step.used_blocks) == ({0}, 0, 3)
    step = one.step()  # its 65th position
    assert (step.with_token, step.preempted, step.used_blocks) == ({0}, 1, 3)
    one.remove(0)
    again = one.step()
    assert (positions(again), again.with_token, again.preempted) == ((32, 0), set(), 0)
    assert positions(one.step()) == (0, 1)


def lost(split: bool) -> int:
    """The positions that a request of a prompt of 64 computes again once another has taken one of its blocks."""
    one = scheduler(32, 64, step_tokens=96, blocks=3, split=split)
    assert one.step().prefill == 96
    assert one.step().preempted == 1
    one.remove(0)
    return one.step().prefill


def test_only_the_blocks_that_are_needed_are_taken_but_no_prompt_is_cut_that_was_taken_whole():
    assert lost(split=True) == 32
    assert lost(split=False) == 64


def test_a_cache_that_grows_preempts_nobody():
    one = scheduler(*[64] * 8, step_tokens=512, blocks=None)
    assert [one.step().running for _ in range(70)] == [8] * 70


def test_blocks_are_counted_whole():
    assert [blocks_for(n) for n in (0, 1, 32, 33)] == [0, 1, 1, 2]
