"""Compositions worked out by hand."""

from __future__ import annotations

import pytest

from innerloop.contract import UnsupportedSetting
from tests.plugins.scripted.options import make_spec
from tests.plugins.scripted.scheduler import Batch, Scheduler
from tests.plugins.scripted.sequence import Sequence, make_sequence
from tests.plugins.scripted.tokens import output_ids


def scheduler(**limits) -> Scheduler:
    return Scheduler(make_spec(**{"max_batch_size": 2, "kv_block_tokens": 4, **limits}).limits)


def sequence(one: Scheduler, request: int, prompt: list[int], output: int) -> Sequence:
    return make_sequence(request, prompt, output, output_ids(prompt, output, 1000), one.limits)


def submit(one: Scheduler, *lengths: tuple[int, int]) -> None:
    """Requests of (prompt, output) tokens; no two prompts begin alike."""
    for request, (prompt, output) in enumerate(lengths):
        one.submit(sequence(one, request, [1000 * request + i for i in range(prompt)], output))


def steps(one: Scheduler) -> list[Batch]:
    batches = []
    while (batch := one.step()) is not None:
        batches.append(batch)
    assert one.pool.used == 0
    return batches


def next_step(one: Scheduler) -> Batch:
    batch = one.step()
    assert batch is not None
    return batch


def positions(batches: list[Batch]) -> list[tuple[int, int]]:
    return [(batch.prefill, batch.decode) for batch in batches]


def test_a_full_batch_lets_others_wait():
    one = scheduler()
    submit(one, (4, 2), (5, 2), (6, 2))
    batches = steps(one)
    assert positions(batches) == [(9, 0), (0, 2), (6, 0), (0, 1)]
    assert [(batch.running, batch.waiting) for batch in batches] == [(2, 1), (2, 1), (1, 0), (1, 0)]
    assert [batch.ids for batch in batches] == [[0, 1], [0, 1], [2], [2]]
    assert [batch.finished for batch in batches] == [[], [0, 1], [], [2]]
    assert [batch.context for batch in batches] == [0, 9, 0, 6]
    assert [batch.blocks for batch in batches] == [3, 4, 2, 2]  # 4 and 5 positions, then 5 and 6; 6, then 7


def test_a_request_of_one_token_ends_with_its_prompt():
    one = scheduler()
    submit(one, (3, 1), (3, 2))
    batches = steps(one)
    assert positions(batches) == [(6, 0), (0, 1)]
    assert [batch.finished for batch in batches] == [[0], [1]]


def test_a_long_prompt_is_computed_in_chunks_and_others_wait_until_there_is_room_in_a_step():
    one = scheduler(max_tokens_per_step=8)
    submit(one, (20, 3), (4, 2))
    batches = steps(one)
    assert positions(batches) == [(8, 0), (8, 0), (8, 0), (0, 2), (0, 1)]
    assert [batch.ids for batch in batches] == [[], [], [0, 1], [0, 1], [0]]
    assert [(batch.running, batch.waiting) for batch in batches] == [(1, 1), (1, 1), (2, 0), (2, 0), (1, 0)]
    assert [batch.context for batch in batches] == [0, 8, 16, 20 + 4, 21]


def test_decode_comes_before_prefill_in_a_step():
    one = scheduler(max_tokens_per_step=5)
    submit(one, (2, 4), (7, 1))
    assert positions(steps(one)) == [(5, 0), (4, 1), (0, 1), (0, 1)]


def test_without_chunked_prefill_a_prompt_waits_for_a_step_that_takes_all_of_it():
    one = scheduler(max_tokens_per_step=8, chunked_prefill=False)
    submit(one, (4, 2), (6, 1))
    assert positions(steps(one)) == [(4, 0), (6, 1)]


def test_where_blocks_are_short_the_youngest_is_preempted_and_computed_again():
    one = scheduler(kv_cache_tokens=16)
    submit(one, (4, 6), (4, 6))
    batches = steps(one)
    # Both get 5 tokens. Then position 8 takes a third block of each, and there are four: request 1 gives up its two,
    # and comes back for 4 + 4 positions again, and its fifth token, which was not computed before.
    assert positions(batches) == [(8, 0), (0, 2), (0, 2), (0, 2), (0, 2), (0, 1), (8, 1)]
    assert [batch.preempted for batch in batches] == [0, 0, 0, 0, 0, 1, 0]
    assert [(batch.running, batch.waiting) for batch in batches[-2:]] == [(1, 1), (1, 0)]
    assert [batch.blocks for batch in batches] == [2, 4, 4, 4, 4, 3, 3]
    assert [batch.finished for batch in batches[-2:]] == [[0], [1]]
    assert sum(batch.ids.count(1) for batch in batches) == 6


def test_a_prompt_in_chunks_that_finds_no_block_gives_up_its_own():
    one = scheduler(kv_cache_tokens=16, max_tokens_per_step=6)
    submit(one, (4, 5), (10, 1))
    batches = steps(one)
    # Request 1 gets 2 and 5 positions into two blocks; its last 3 need a third one, and request 0 holds the other two.
    # It starts again, in vain, and once more when request 0 has finished.
    assert positions(batches) == [(6, 0), (5, 1), (0, 1), (5, 1), (0, 1), (6, 0), (4, 0)]
    assert [batch.preempted for batch in batches] == [0, 0, 1, 0, 1, 0, 0]


def test_a_prefix_is_taken_from_the_cache_but_for_the_last_position():
    one = scheduler(prefix_caching=True)
    shared = list(range(8))
    one.submit(sequence(one, 0, [*shared, 100], 1))
    one.submit(sequence(one, 1, [*shared, 200], 1))  # in the same step: nothing lies there yet
    batch = next_step(one)
    assert (batch.prefill, batch.cached, batch.blocks) == (18, 0, 6)
    one.submit(sequence(one, 2, [*shared, 300, 301], 1))
    one.submit(sequence(one, 3, shared, 1))
    batch = next_step(one)
    assert (batch.prefill, batch.cached, batch.context) == (2 + 4, 8 + 4, 8 + 4)
    assert batch.blocks == 2 + 1 + 1  # the shared prefix once, and a block for each request's own
    one.pool.reset()
    one.submit(sequence(one, 4, shared, 1))
    batch = next_step(one)
    assert (batch.prefill, batch.cached) == (8, 0)


def test_a_next_turn_finds_the_conversation_so_far():
    one = scheduler(prefix_caching=True)
    prompt = list(range(6))
    answer = output_ids(prompt, 7, 1000)
    one.submit(sequence(one, 0, prompt, 7))
    steps(one)
    one.submit(sequence(one, 1, [*prompt, *answer, 7, 8, 9], 1))
    batch = next_step(one)
    assert (batch.cached, batch.prefill) == (12, 4)  # 6 + 6 were computed, the seventh token never was


def test_the_least_recently_used_blocks_are_evicted_first():
    one = scheduler(prefix_caching=True, kv_cache_tokens=16)
    a, b, c = ([n, n + 1, n + 2, n + 3, n + 4] for n in (0, 100, 200))
    hits = []
    for request, prompt in enumerate((a, b, a, c, a, b)):  # each leaves one cached block; two blocks for each at work
        one.submit(sequence(one, request, prompt, 1))
        hits.append(next_step(one).cached)
    assert hits == [0, 0, 4, 0, 4, 4]
    one.submit(sequence(one, 6, list(range(300, 312)), 1))  # takes the free block and, of the others, c's and a's
    next_step(one)
    one.submit(sequence(one, 7, b, 1))
    assert next_step(one).cached == 4


def test_positions_computed_again_are_no_hits():
    one = scheduler(prefix_caching=True, kv_cache_tokens=16)
    submit(one, (4, 6), (4, 6))
    batches = steps(one)
    assert [batch.preempted for batch in batches] == [0, 0, 0, 0, 0, 1, 0]
    # Of request 1's two blocks, the second one, the end of its prefix, went to request 0.
    assert positions(batches)[-1] == (4, 1)
    assert sum(batch.cached for batch in batches) == 0


def test_accepted_drafts_come_out_beside_the_token_of_the_step():
    one = scheduler(draft_tokens=3, acceptance=1.0)
    submit(one, (4, 8))
    batches = steps(one)
    assert positions(batches) == [(4, 0), (0, 1), (0, 1)]
    assert [batch.counts for batch in batches] == [[1], [4], [3]]
    assert [(batch.drafted, batch.accepted) for batch in batches] == [(0, 0), (3, 3), (2, 2)]  # no more than are left
    assert [batch.context for batch in batches] == [0, 4, 8]


def test_rejected_drafts_cost_a_position_each_and_bring_nothing():
    one = scheduler(draft_tokens=2, acceptance=0.0)
    submit(one, (4, 4))
    batches = steps(one)
    assert [batch.counts for batch in batches] == [[1], [1], [1], [1]]
    assert [(batch.drafted, batch.accepted) for batch in batches] == [(0, 0), (2, 0), (1, 0), (0, 0)]


def test_the_share_of_accepted_drafts_is_as_asked():
    one = scheduler(draft_tokens=1, acceptance=0.7, max_batch_size=100)
    submit(one, *[(10, 400)] * 50)
    batches = steps(one)
    drafted = sum(batch.drafted for batch in batches)
    assert sum(batch.accepted for batch in batches) / drafted == pytest.approx(0.7, abs=0.02)  # 3.5 standard errors


@pytest.mark.parametrize(
    ("limits", "lengths", "words"),
    [
        ({"context_length": 8}, (5, 4), "9 tokens; context_length is 8"),
        ({"kv_cache_tokens": 8}, (5, 5), "does not fit into the KV cache"),
        ({"max_tokens_per_step": 8, "chunked_prefill": False}, (5, 5), "does not fit into a step"),
    ],
)
def test_a_request_that_can_never_run_is_refused(limits, lengths, words):
    with pytest.raises(ValueError, match=words):
        submit(scheduler(**limits), lengths)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"max_tokens_per_step": 1}, "a full batch could not decode"),
        ({"max_tokens_per_step": 4, "draft_tokens": 2}, "a full batch could not decode"),
        ({"draft_tokens": 4}, "below kv_block_tokens"),
        ({"acceptance": 1.5}, "between 0 and 1"),
        ({"max_batch_size": 0}, "at least 1"),
    ],
)
def test_limits_that_cannot_be_are_refused(limits, words):
    with pytest.raises(UnsupportedSetting, match=words):
        scheduler(**limits)
