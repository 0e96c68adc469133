"""What each step computed, against traces whose make-up is known."""

from __future__ import annotations

import numpy as np
import pytest

from innerloop.engines.worker.trace import REQUEST, STATES, STEP, TOKEN
from innerloop.harness.analysis.context import first_steps, jobs_of, work
from innerloop.harness.analysis.sight import seen
from tests.harness.conftest import offline_run, table


def steps_of(prefill, preempted=None):
    n = len(prefill)
    start = np.arange(n) * 100
    return table(
        STEP,
        start_ns=start,
        end_ns=start + 100,
        prefill_tokens=prefill,
        output_tokens=np.zeros(n),
        preempted=np.zeros(n) if preempted is None else preempted,
    )


def tokens_of(arrivals):
    """arrivals: (step, request, count)"""
    step, request, count = np.array(arrivals).reshape(-1, 3).T
    return table(TOKEN, time_ns=step * 100 + 100, request=request, count=count, step=step)


def requests_of(prompts, first=None, submitted=None):
    n = len(prompts)
    return table(
        REQUEST,
        due_ns=np.zeros(n),
        submitted_ns=np.zeros(n) if submitted is None else submitted,
        first_token_ns=np.zeros(n) if first is None else first,
        prompt_tokens=prompts,
        asked_tokens=np.full(n, 9),
        output_tokens=np.zeros(n),
        state=np.full(n, STATES.index("cut")),
    )


def test_a_decoding_request_attends_to_its_prompt_and_all_it_has_generated():
    done = work(steps_of([10, 0, 0]), tokens_of([(0, 0, 1), (1, 0, 1), (2, 0, 1)]), requests_of([10]))
    assert done.decode.tolist() == [0, 1, 1]
    assert done.decode_context.tolist() == [0, 11, 12]
    assert done.kv_read.tolist() == [0, 10, 11]  # the newest token's own key is computed in the step
    assert done.outputs.tolist() == [1, 1, 1]


def test_a_prompt_in_one_step_attends_to_a_triangle():
    done = work(steps_of([4]), tokens_of([(0, 0, 1)]), requests_of([4]))
    assert done.prefill.tolist() == [4]
    assert done.prefill_context.tolist() == [1 + 2 + 3 + 4]
    assert done.kv_read.tolist() == [0]


def test_a_prompt_in_chunks_reads_what_earlier_chunks_wrote():
    done = work(steps_of([3, 2]), tokens_of([(1, 0, 1)]), requests_of([5]))
    assert done.prefill_context.tolist() == [1 + 2 + 3, 4 + 5]
    assert done.kv_read.tolist() == [0, 3]


def test_prompts_take_their_positions_in_the_order_of_their_first_tokens():
    steps = steps_of([6, 6])  # request 1 (4 positions) and 2 of request 0's; then its other 4 and 2 of request 2's
    tokens = tokens_of([(0, 1, 1), (1, 0, 1), (1, 1, 1)])
    requests = requests_of([6, 4, 8], first=[200, 100, -1])
    done = work(steps, tokens, requests)
    assert done.prefill_context.tolist() == [10 + 3, (3 + 4 + 5 + 6) + 3]
    assert done.kv_read.tolist() == [0, 2 + 4]  # the chunk of request 0, and request 1 decodes behind its 4
    assert done.unattributed == 0
    begun = first_steps(steps, tokens, requests)
    assert begun is not None
    assert begun.tolist() == [0, 0, 1]


def test_what_a_prefix_cache_held_is_taken_off_the_beginning():
    done = work(steps_of([10, 4]), tokens_of([(0, 0, 1), (1, 1, 1)]), requests_of([10, 10]))
    assert done.prefill_context.tolist() == [55, 7 + 8 + 9 + 10]
    assert done.kv_read.tolist() == [0, 6]


def test_a_preempted_request_is_computed_again_before_its_next_token():
    steps = steps_of([10, 0, 0, 11, 0], preempted=[0, 0, 1, 0, 0])
    tokens = tokens_of([(0, 0, 1), (1, 0, 1), (3, 0, 1), (4, 0, 1)])
    requests = requests_of([10])
    done = work(steps, tokens, requests)
    assert done.decode.tolist() == [0, 1, 0, 1, 1]
    assert done.prefill_context.tolist() == [55, 0, 0, 66, 0]  # prompt and the first of two tokens: 11 positions
    assert done.unattributed == 0


def test_without_preemptions_a_pause_is_no_recomputation():
    requests = requests_of([10])
    tokens = tokens_of([(0, 0, 1), (3, 0, 1)])
    assert jobs_of(steps_of([10, 0, 0, 0]), tokens, requests).positions.tolist() == [10]


def test_several_tokens_in_one_arrival_are_a_position_each():
    done = work(steps_of([10, 0]), tokens_of([(0, 0, 3), (1, 0, 2)]), requests_of([10]))
    assert done.decode.tolist() == [2, 2]
    assert done.decode_context.tolist() == [11 + 12, 13 + 14]


def test_steps_whose_prefill_is_not_reported_are_unknown_and_decode_still_counts():
    done = work(steps_of([-1, 0]), tokens_of([(0, 0, 1), (1, 0, 1)]), requests_of([10]))
    assert np.isnan(done.prefill[0])
    assert np.isnan(done.kv_read[0])
    assert done.decode_context.tolist() == [0, 11]
    assert first_steps(steps_of([-1]), tokens_of([(0, 0, 1)]), requests_of([10])) is None


def test_positions_of_nobody_are_counted_and_left_without_context():
    done = work(steps_of([10, 5]), tokens_of([(0, 0, 1)]), requests_of([10]))
    assert done.unattributed == 5
    assert done.prefill_context.tolist() == [55, 0]


@pytest.mark.parametrize("rows", [0, 1])
def test_a_trace_without_tokens_has_no_decode(rows):
    done = work(steps_of([0] * rows), table(TOKEN, time_ns=[]), table(REQUEST, due_ns=[]))
    assert done.decode.tolist() == done.prefill.tolist() == [0] * rows


def test_records_that_name_nothing_are_left_out():
    tokens = tokens_of([(0, 0, 1), (7, 0, 1), (0, 9, 1), (0, 0, 0)])
    assert work(steps_of([4]), tokens, requests_of([4])).outputs.tolist() == [1]


def test_a_whole_run_adds_up():
    made = offline_run(requests=8, output=50, prompt=16)
    done = work(made["steps"], made["tokens"], made["requests"])
    assert done.prefill.sum() == 8 * 16
    assert done.decode.sum() == 8 * 49
    assert done.decode.tolist() == made["steps"]["decode_tokens"].tolist()
    assert done.pairs.sum() == 8 * sum(range(1, 16 + 49 + 1))  # every position attends to itself and all before it


def test_the_positions_of_a_request_that_are_computed_with_drafts_read_its_context_once():
    """A prompt of 10, its first token, then a draft of two that is accepted: three tokens by one pass over 10 tokens of
    context, and over 13 at the next one; without drafts the same tokens are taken to be a pass each."""
    steps, requests = steps_of([10, 0, 0]), requests_of([10])
    tokens = tokens_of([(0, 0, 1), (1, 0, 3), (2, 0, 1)])
    assert work(steps, tokens, requests).kv_read.tolist() == [0, 10 + 11 + 12, 13]
    steps["drafted_tokens"] = [0, 2, 2]
    done = work(steps, tokens, requests)
    assert done.kv_read.tolist() == [0, 10, 13]
    assert done.decode_context.tolist() == [0, 11 + 12 + 13, 14]
    # a window of 12 positions, the reader's own included
    of_window = seen(steps, tokens, requests, [12])[12]
    assert of_window.kv_read.tolist() == [0, 10, 11]
    assert of_window.pairs.tolist() == [55, 11 + 12 + 12, 12]
