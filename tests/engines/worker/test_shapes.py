from __future__ import annotations

import numpy as np

from innerloop.engines.worker.shapes import first_requests, long_contexts, longest_context, taper
from tests.engines.support.driving import work


def test_a_tapers_requests_end_one_after_the_other():
    assert taper(work([(5, 32)] * 6), longest=100).output_lens.tolist() == [1, 2, 3, 4, 4, 4]


def test_a_large_taper_ends_by_some_at_a_time():
    outputs = taper(work([(5, 32)] * 520), longest=10_000).output_lens
    assert outputs[:4].tolist() == [1, 1, 2, 2]
    assert outputs.max() == 256
    assert outputs[-9:].tolist() == [256] + [4] * 8


def test_no_request_of_a_taper_is_longer_than_the_windows():
    assert taper(work([(5, 32), (8, 32), (9, 32), (12, 32)]), longest=10).output_lens.tolist() == [1, 2, 1, 1]


def test_a_tapers_last_requests_join_it_one_by_one_with_prompts_of_their_own():
    tapered = taper(work([(20, 8)] * 12), 1000)
    assert tapered.output_lens.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 4, 4, 4, 4]
    assert tapered.prompt_lens.tolist() == [16] * 8 + [20] * 4
    assert tapered.prompt_tokens[tapered.prompt_offsets[8]] == work([(20, 8)] * 12).prompt_tokens[160]
    assert tapered.due_ns.tolist() == [0] * 8 + [-1] * 4
    assert tapered.next_request.tolist() == [-1, 8, -1, 9, 10, -1, 11, -1, -1, -1, -1, -1]


def test_nobody_joins_a_taper_of_two():
    tapered = taper(work([(5, 4)] * 2), 1000)
    assert tapered.due_ns.tolist() == [0, 0]
    assert tapered.next_request.tolist() == [-1, -1]


def test_long_prompts_are_as_long_as_the_windows_requests_the_longest_first():
    window = work([(100, 100), (300, 300), (200, 200), (50, 50)])
    assert longest_context(window) == 600
    made = long_contexts(work([(5, 4), (6, 4)]), window, most_prompt=1000)
    assert made.prompt_lens.tolist() == [600 - 68, 200 - 68]  # of 600, 400, 200 and 100, every second
    assert len(made.prompt_tokens) == made.prompt_offsets[-1]
    assert made.output_lens.tolist() == [4, 4]
    short = long_contexts(work([(5, 4), (6, 4)]), window, most_prompt=128)
    assert short.prompt_lens.tolist() == [300, 132]  # the window has a prompt of 300 itself


def test_a_window_of_short_requests_gives_prompts_of_one_token_at_least():
    assert long_contexts(work([(5, 4)]), work([(3, 2)]), most_prompt=10).prompt_lens.tolist() == [1]


def test_the_first_requests_are_a_workload_of_their_own():
    part = first_requests(work([(5, 4), (6, 3), (7, 2)]), 2)
    assert part.prompt_lens.tolist() == [5, 6]
    assert len(part.prompt_tokens) == 11
    assert part.output_lens.tolist() == [4, 3]
    assert len(first_requests(work([(5, 4)]), 0).output_lens) == 0
    assert np.array_equal(part.next_request, [-1, -1])
