"""Loads beyond lengths at a rate: bursts, ramps, schedules of users, sessions, mixes, groups and what they share."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

from innerloop.harness.analysis.prefixes import hit_tokens, theoretical
from innerloop.harness.cli.errors import Refused
from innerloop.harness.profiles import WorkloadProfile, load_model, parse_seeds
from innerloop.harness.profiles.validation import validate
from innerloop.harness.workloads import Workload, build, check_context, draws, load, longest_request
from innerloop.harness.workloads.content import BLOCK_TOKENS, Pieces, prompt_ids
from innerloop.harness.workloads.sharing import shared_lens

TINY = load_model("llama-tiny")
ONE = parse_seeds(1)
S = 1_000_000_000


def profile(load_: dict[str, Any], **more: Any) -> WorkloadProfile:
    given = {"prompt": {"tokens": 8}, "output": {"tokens": 4}, **more}
    fields = {name: value for name, value in given.items() if value is not None}
    return validate(WorkloadProfile, {"name": "t", "load": load_, **fields}, "t")


def make(load_: dict[str, Any], **more: Any) -> Workload:
    return build(profile(load_, **more), TINY, ONE, 100_000)


def prompts(work: Workload) -> list[list[int]]:
    return [part.tolist() for part in np.split(work.prompt_tokens, work.prompt_offsets[1:-1])]


def refused(load_: dict[str, Any], **more: Any) -> str:
    with pytest.raises(Refused) as found:
        profile(load_, **more)
    return " ".join([str(found.value), *found.value.details])


# ---------------------------------------------------------------- arrivals


@pytest.mark.parametrize("shape", [0.25, 1.0, 4.0])
def test_gamma_gaps_have_the_rate_and_the_asked_burstiness(shape: float) -> None:
    plan = {"kind": "open", "arrivals": "gamma", "burstiness": shape, "rate_per_s": 10, "requests": 40_000}
    gaps = np.diff(make(plan).due_ns) / S
    assert gaps.mean() == pytest.approx(0.1, rel=0.05)
    assert gaps.std() / gaps.mean() == pytest.approx(shape**-0.5, rel=0.05)  # of a gamma distribution


def test_constant_arrivals_follow_steps_and_ramps_of_the_rate() -> None:
    plan = {
        "kind": "open",
        "arrivals": "constant",
        "duration_s": 4,
        "rates": [{"at_s": 0, "per_s": 2}, {"at_s": 2, "per_s": 4}],
    }
    assert (make(plan).due_ns / S).tolist() == [0, 0.5, 1, 1.5, 2, 2.25, 2.5, 2.75, 3, 3.25, 3.5, 3.75]
    ramp = {**plan, "change": "ramp", "rates": [{"at_s": 0, "per_s": 0}, {"at_s": 2, "per_s": 4}]}
    due = make(ramp).due_ns / S
    assert due[:4] == pytest.approx([0, 1, 2**0.5, 3**0.5])  # t^2 requests by t
    assert due[4:] == pytest.approx(np.arange(2, 4, 0.25))


def test_users_over_time_come_and_the_last_ones_leave() -> None:
    plan = {
        "kind": "closed",
        "duration_s": 30,
        "users_over_time": [{"at_s": 0, "users": 1}, {"at_s": 10, "users": 3}, {"at_s": 20, "users": 2}],
    }
    work = make(plan)
    assert work.due_ns[:3].tolist() == [0, 10 * S, 10 * S]
    assert work.until_ns is not None
    assert work.until_ns[:6].tolist() == [-1, -1, 20 * S, -1, -1, 20 * S]
    assert work.next_request[:3].tolist() == [3, 4, 5]


def test_a_stationary_start_numbers_the_users() -> None:
    work = make({"kind": "closed", "users": 3, "requests_per_user": 2, "start": "residence"})
    assert work.spread is not None
    assert work.spread.tolist() == [0, 1, 2, -1, -1, -1]


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ({"kind": "open", "requests": 3}, "rate_per_s is missing"),
        ({"kind": "open", "rate_per_s": 1, "requests": 3, "burstiness": 2}, "burstiness is for arrivals: gamma"),
        ({"kind": "open", "rates": [{"at_s": 0, "per_s": 1}], "requests": 3}, "rates needs duration_s"),
        ({"kind": "open", "rates": [{"at_s": 1, "per_s": 1}], "duration_s": 3}, "rates must begin with at_s: 0"),
        ({"kind": "open", "rates": [{"at_s": 0, "per_s": 0}], "duration_s": 3}, "rates is 0 throughout"),
        ({"kind": "open", "rates": [{"at_s": 0, "pers": 0}], "duration_s": 3}, "did you mean 'per_s'"),
        ({"kind": "open", "arrivals": "file"}, "arrivals: file needs path"),
        ({"kind": "closed", "duration_s": 3}, "users is missing"),
        ({"kind": "closed", "users": 2, "duration_s": 3, "arrive_over_s": 1, "start": "residence"}, "leave one of"),
        ({"kind": "sessions", "sessions": 2, "turns": 2}, "exactly one of rate_per_s and users"),
        ({"kind": "trace", "path": "x"}, "prompt: the trace already sets the lengths"),
    ],
)
def test_fields_that_do_not_go_together_are_refused(plan: dict[str, Any], said: str) -> None:
    assert said in refused(plan)


# ---------------------------------------------------------------- sessions

SESSIONS = {"kind": "sessions", "sessions": 3, "turns": 3, "users": 2, "think_s": 0.5}


def test_turns_go_on_with_the_conversation_and_sessions_of_a_user_follow_each_other() -> None:
    work = make(SESSIONS, prompt={"tokens": 8, "shared_prefix_tokens": 20})
    assert work.prompt_lens.tolist() == [28, 28 + 4 + 8, 40 + 4 + 8] * 3
    assert work.history_lens is not None
    assert work.history_lens.tolist() == [0, 32, 44] * 3
    assert np.diff(work.prompt_offsets).tolist() == [28, 8, 8] * 3
    assert work.due_ns.tolist() == [0, -1, -1, 0, -1, -1, -1, -1, -1]
    assert work.next_request.tolist() == [1, 2, 6, 4, 5, -1, 7, 8, -1]
    assert work.user.tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 0]
    assert work.rest_ns.tolist() == [S // 2] * 9
    assert work.sessions == 3
    assert prompts(work)[0][:20] == prompts(work)[3][:20]
    assert work.shared_lens is not None
    assert work.shared_lens.tolist() == [0, 31, 43, 20, 31, 43, 20, 31, 43]  # all but the last output token


def test_sessions_at_a_rate_begin_at_their_own_times() -> None:
    plan = {"kind": "sessions", "sessions": 3, "turns": 2, "rate_per_s": 2, "arrivals": "constant"}
    work = make(plan)
    assert work.due_ns.tolist() == [0, -1, S // 2, -1, S, -1]
    assert (work.user < 0).all()


def test_the_longest_conversation_must_fit_into_the_context() -> None:
    plan = profile(SESSIONS, prompt={"tokens": 8, "shared_prefix_tokens": 20})
    assert longest_request(plan) == (52, 4)
    check_context(plan, 56)
    with pytest.raises(Refused) as found:
        check_context(plan, 55)
    assert "3 turns x (prompt.tokens.tokens (8) + output.tokens.tokens (4)) = 56 tokens" in str(found.value)
    assert "load.turns at most 2" in found.value.details[0]


# ---------------------------------------------------------------- mixes and groups


def test_classes_are_drawn_by_their_weights_and_have_lengths_of_their_own() -> None:
    classes = [
        {"name": "chat", "weight": 3, "prompt": {"tokens": 10}, "output": {"tokens": 2}},
        {"name": "code", "weight": 1, "prompt": {"tokens": 50}, "output": {"tokens": 7}},
    ]
    work = make({"kind": "offline", "requests": 4000}, prompt=None, output=None, classes=classes)
    assert work.class_of is not None
    assert work.class_of.mean() == pytest.approx(0.25, abs=0.03)
    assert {*work.prompt_lens[work.class_of == 0], *work.output_lens[work.class_of == 1]} == {10, 7}
    counted = work.describe().classes
    assert counted is not None
    assert [one.name for one in counted] == ["chat", "code"]
    assert sum(one.requests for one in counted) == 4000


def test_groups_have_a_prefix_each_and_zipf_makes_the_first_ones_frequent() -> None:
    prompt = {"tokens": 8, "prefix": {"groups": 4, "tokens": 30, "zipf": 1}}
    work = make({"kind": "offline", "requests": 2000}, prompt=prompt)
    heads = [tuple(one[:30]) for one in prompts(work)]
    counts = sorted((heads.count(head) for head in {*heads}), reverse=True)
    assert counts == pytest.approx([960, 480, 320, 240], abs=100)  # 1, 1/2, 1/3, 1/4 of 2000 / (25/12)
    assert work.shared_lens is not None
    assert (work.shared_lens == 0).sum() == 4


def test_a_hit_share_that_was_asked_for_is_the_one_of_an_infinite_cache() -> None:
    prompt = {"tokens": {"kind": "uniform", "min": 50, "max": 500}, "prefix": {"hit_share": 0.6}}
    work = make({"kind": "offline", "requests": 2000}, prompt=prompt)
    assert work.describe().shared_share == pytest.approx(0.6, abs=0.01)
    assert work.prompt_lens.max() <= 500


# ---------------------------------------------------------------- what is shared


def longest_common(ids: list[list[int]], order: list[int]) -> list[int]:
    """By looking at every pair."""
    out = [0] * len(ids)
    for place, one in enumerate(order):
        for other in order[:place]:
            same = 0
            for a, b in zip(ids[one], ids[other], strict=False):
                if a != b:
                    break
                same += 1
            out[one] = max(out[one], same)
    return out


@pytest.mark.parametrize("seed", range(20))
def test_what_prompts_share_is_what_their_ids_have_in_common(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 25
    counts = rng.integers(1, 5, n)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    keys = rng.integers(1, 4, offsets[-1]).astype(np.uint64) << np.uint64(20)
    lens = rng.choice([5, 5, 5, 3, 9], offsets[-1]).astype(np.int64)
    pieces = Pieces(keys, lens, offsets)
    order = rng.permutation(n)
    found = [part.tolist() for part in np.split(prompt_ids(pieces, TINY), pieces.prompt_offsets[1:-1])]
    wanted = longest_common(found, order.tolist())
    assert np.abs(shared_lens(pieces, order, None) - wanted).max() <= 1  # two tokens may be equal by chance


def test_ids_are_the_same_wherever_a_look_at_them_begins_and_ends() -> None:
    rng = np.random.default_rng(0)
    lens = np.concatenate([rng.integers(1, 9, 100), [3 * BLOCK_TOKENS, 1, BLOCK_TOKENS], rng.integers(1, 9, 100)])
    pieces = Pieces(rng.integers(0, 2**63, len(lens), dtype=np.uint64), lens, np.arange(len(lens) + 1))
    ids = prompt_ids(pieces, TINY)
    alone = [Pieces(pieces.keys[[i]], lens[[i]], np.arange(2)) for i in range(len(lens))]
    whole = np.concatenate([np.asarray(prompt_ids(one, TINY)) for one in alone])
    assert np.array_equal(ids, whole)
    assert np.array_equal(np.concatenate(list(ids.blocks())), whole)
    assert max(map(len, ids.blocks())) == BLOCK_TOKENS
    for begin, end in rng.integers(0, len(whole) + 1, (200, 2)).tolist():
        assert np.array_equal(ids[begin:end], whole[begin:end])
    with pytest.raises(ValueError, match="in their order"):
        ids[::2]


def test_a_large_load_is_hashed_and_saved_in_little_memory(tmp_path: Any) -> None:
    """50 M tokens or 500 M: the ids are drawn as they are written."""
    work = make({"kind": "offline", "requests": 100}, prompt={"tokens": 90_000})
    tracemalloc.start()
    try:
        hashed = work.hash
        work.save(tmp_path / "w.npz")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20, "of 36 MB of ids"
    assert load(tmp_path / "w.npz").hash == hashed


def test_engines_hit_whole_blocks_and_never_a_whole_prompt() -> None:
    shared, lens = np.array([0, 40, 64, 33]), np.array([50, 50, 64, 64])
    assert hit_tokens(shared, lens, 16).tolist() == [0, 32, 48, 32]
    assert theoretical(shared, lens) == (40 + 64 + 33) / 228
    assert theoretical(shared, lens, 16) == 112 / 228


def test_all_of_it_is_saved_and_read_again(tmp_path: Any) -> None:
    classes = [{"name": "a", "weight": 1, "prompt": {"tokens": 3}, "output": {"tokens": 2}}]
    work = make(SESSIONS, prompt=None, output=None, classes=classes)
    work.save(tmp_path / "w.npz")
    again = load(tmp_path / "w.npz")
    assert (again.hash, again.describe()) == (work.hash, work.describe())
    warm = again.known_lens(warm=True)
    assert warm is not None
    assert warm.tolist() == [3, 4, 9] * 3  # first turns whole, the others all but the last output token


def test_gamma_draws_are_the_same_however_many_are_asked_for() -> None:
    key = draws.key(1, draws.SCHEDULE)
    assert draws.gamma(key, 100, 0.5)[:10].tolist() == draws.gamma(key, 10, 0.5).tolist()
