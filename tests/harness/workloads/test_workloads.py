"""Requests as arrays: the same for the same seeds, chained by user, and never longer than the context."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from innerloop.harness.cli.errors import InnerloopError, Refused
from innerloop.harness.profiles import Seeds, WorkloadProfile, load_model, load_workload, names, parse_seeds
from innerloop.harness.profiles.settings import resolve_settings
from innerloop.harness.schema.common import TokenTotals
from innerloop.harness.schema.result import Workload as Counted
from innerloop.harness.workloads import Workload, build, check_context, content, load, longest_request, warmup
from innerloop.harness.workloads.workload import ARRAYS

TINY = load_model("llama-tiny")
ONE = parse_seeds(1)
QUICK_SEED_1 = "cf912fd991dab5aef5b36c565b13c8d345ec8fe6948bd8634825f45e5371d2a7"


def make(name: str, *overrides: str, seeds: Seeds = ONE, context_length: int = 2048) -> Workload:
    return build(load_workload(name, overrides), TINY, seeds, context_length)


def prompts(work: Workload) -> list[list[int]]:
    return [part.tolist() for part in np.split(work.prompt_tokens, work.prompt_offsets[1:-1])]


def test_quick_with_seed_1_on_llama_tiny_stays_the_same_on_every_machine() -> None:
    assert make("quick").hash == QUICK_SEED_1


@pytest.mark.parametrize("name", names("workloads"))
def test_every_shipped_workload_builds_for_every_shipped_model_and_adds_up(name: str) -> None:
    workload = load_workload(name)
    for model in map(load_model, names("models")):
        check_context(workload, resolve_settings(model, "cpu", [])[0].context_length)
    work = build(workload, TINY, ONE, 2048)
    count = work.requests
    ids = np.asarray(work.prompt_tokens)
    dtypes = {name: array.dtype.str for name in ARRAYS if (array := getattr(work, name)) is not work.prompt_tokens}
    assert {"prompt_tokens": ids.dtype.str, **dtypes} == {
        "prompt_tokens": "<i4",
        "prompt_offsets": "<i8",
        "output_lens": "<i4",
        "due_ns": "<i8",
        "next_request": "<i4",
        "user": "<i4",
        "rest_ns": "<i8",
        "duration_ns": "<i8",
    }
    assert len(work.prompt_offsets) == count + 1
    assert len(work.due_ns) == len(work.next_request) == len(work.user) == count
    assert (work.rest_ns.shape, work.duration_ns.shape) == ((), ())
    assert (work.prompt_offsets[0], work.prompt_offsets[-1]) == (0, len(work.prompt_tokens))
    prompt, output = longest_request(workload)
    assert 1 <= work.prompt_lens.min() <= work.prompt_lens.max() <= prompt
    assert 1 <= work.output_lens.min() <= work.output_lens.max() <= output
    assert 0 <= ids.min() <= ids.max() < TINY.vocab_size


def test_content_is_uniform_over_the_vocabulary_without_special_ids() -> None:
    ids = make("offline-prefill").prompt_tokens
    counts = np.bincount(ids, minlength=TINY.vocab_size)
    special = [1, 2]  # where llama-tiny begins and ends
    assert (counts[special] == 0).all()
    others = np.delete(counts, special)
    assert others.min() > 0
    assert others.var() / others.mean() == pytest.approx(1, abs=0.1)  # Poisson, as independent draws give


def test_the_same_seeds_give_the_same_arrays_and_others_do_not() -> None:
    assert make("users-10").hash == make("users-10").hash
    assert make("quick").hash != make("quick", seeds=parse_seeds(2)).hash


def test_the_content_seed_changes_nothing_but_content() -> None:
    one, other = make("poisson-1"), make("poisson-1", seeds=parse_seeds("1,content=2"))
    assert (one.prompt_offsets == other.prompt_offsets).all()
    assert (one.output_lens == other.output_lens).all()
    assert (one.due_ns == other.due_ns).all()
    assert (np.asarray(one.prompt_tokens) != np.asarray(other.prompt_tokens)).mean() > 0.99


def test_the_lengths_seed_cuts_the_same_content_elsewhere() -> None:
    one, other = make("quick"), make("quick", seeds=parse_seeds("1,lengths=2"))
    assert (one.prompt_lens != other.prompt_lens).any()
    assert (one.output_lens != other.output_lens).any()
    for a, b in zip(prompts(one), prompts(other), strict=True):
        common = min(len(a), len(b))
        assert a[:common] == b[:common]


def test_the_schedule_seed_leaves_content_and_lengths_alone() -> None:
    one, other = make("poisson-1"), make("poisson-1", seeds=parse_seeds("1,schedule=2"))
    common = min(one.requests, other.requests)
    assert (one.due_ns[:common] != other.due_ns[:common]).all()
    assert (one.output_lens[:common] == other.output_lens[:common]).all()
    assert prompts(one)[:common] == prompts(other)[:common]


def test_more_requests_begin_with_the_fewer() -> None:
    few, many = make("quick", "load.requests=5"), make("quick", "load.requests=500")
    assert prompts(many)[:5] == prompts(few)
    assert many.output_lens[:5].tolist() == few.output_lens.tolist()


def test_content_does_not_depend_on_how_it_is_drawn_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = make("quick", "prompt.shared_prefix_tokens=9")
    monkeypatch.setattr(content, "BLOCK_TOKENS", 100)
    assert make("quick", "prompt.shared_prefix_tokens=9").hash == whole.hash


def test_all_requests_begin_with_the_shared_prefix_and_go_on_as_without_it() -> None:
    plain, shared = make("quick"), make("quick", "prompt.shared_prefix_tokens=40")
    prefix = prompts(shared)[0][:40]
    assert len(set(prefix)) > 20
    for with_prefix, without in zip(prompts(shared), prompts(plain), strict=True):
        assert with_prefix == prefix + without
    other = make("quick", "prompt.shared_prefix_tokens=40", seeds=parse_seeds("1,content=2"))
    assert prompts(other)[0][:40] != prefix


def test_users_10_shared_is_users_10_behind_a_prefix() -> None:
    plain, shared = make("users-10"), make("users-10-shared")
    assert (shared.prompt_lens - plain.prompt_lens == 512).all()
    assert (shared.output_lens == plain.output_lens).all()
    assert prompts(shared)[7][512:] == prompts(plain)[7]


def test_closed_loop_chains_visit_every_request_of_a_user_once() -> None:
    work = make("users-10", "load.duration_s=null", "load.requests_per_user=4", "load.users=3")
    assert work.requests == 12
    seen = []
    for user in range(3):
        chain, request = [], user
        while request != -1:
            chain.append(request)
            request = int(work.next_request[request])
        assert len(chain) == 4
        assert (work.user[chain] == user).all()
        assert work.due_ns[chain[0]] == round(20e9 * user / 3)
        assert (work.due_ns[chain[1:]] == -1).all()
        seen += chain
    assert sorted(seen) == list(range(12))
    assert (int(work.rest_ns), int(work.duration_ns)) == (10_000_000, -1)


def test_a_closed_loop_with_a_duration_closes_its_window_then() -> None:
    work = make("users-10", "load.duration_s=30.5")
    assert work.duration_ns == 30_500_000_000
    assert work.describe().duration_s == 30.5
    assert work.describe().users == 10


def test_open_and_offline_requests_belong_to_no_user_and_run_to_their_end() -> None:
    for name in ("quick", "poisson-4"):
        work = make(name)
        assert (work.user == -1).all()
        assert (work.next_request == -1).all()
        assert (work.due_ns >= 0).all()
        assert (int(work.rest_ns), int(work.duration_ns)) == (0, -1)
        assert (work.describe().users, work.describe().duration_s) == (None, None)


def test_describe_counts_what_will_be_asked() -> None:
    work = make("quick", "prompt.tokens=10", "output.tokens=3")
    assert work.describe() == Counted(
        requests=64,
        users=None,
        duration_s=None,
        prompt_tokens=TokenTotals(total=640, min=10, mean=10.0, max=10),
        output_tokens=TokenTotals(total=192, min=3, mean=3.0, max=3),
        shared_share=0.0,
    )


def test_lengths_come_from_a_file_beside_the_profile(tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_text("ContextTokens,GeneratedTokens\n5,2\n9,3\n")
    (tmp_path / "mine.yaml").write_text(
        "prompt: {tokens: {kind: file, path: trace.csv, column: ContextTokens, order: sequence}}\n"
        "output: {tokens: {kind: file, path: trace.csv, column: GeneratedTokens, order: sequence}}\n"
        "load: {kind: offline, requests: 3}\n"
    )
    work = make(str(tmp_path / "mine.yaml"))
    assert work.prompt_lens.tolist() == [5, 9, 5]
    assert work.output_lens.tolist() == [2, 3, 2]


def test_a_saved_workload_is_loaded_without_pickle_and_has_the_same_hash(tmp_path: Path) -> None:
    work = make("users-10", "load.duration_s=30")
    work.save(tmp_path / "workload.npz")
    with np.load(tmp_path / "workload.npz", allow_pickle=False) as file:
        assert sorted(file) == sorted([*ARRAYS, "about", "shared_lens"])
    assert load(tmp_path / "workload.npz").hash == work.hash


@pytest.mark.parametrize("field", ARRAYS)
def test_the_hash_sees_every_array(field: str) -> None:
    work = make("quick")
    changed: Any = np.asarray(getattr(work, field)) + 1
    assert replace(work, **{field: changed}).hash != work.hash


def test_a_file_that_is_no_workload_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "workload.npz"
    makers: list[Callable[[], object]] = [
        lambda: None,
        lambda: path.write_bytes(b"not a zip"),
        lambda: path.write_bytes(b""),
        lambda: np.savez(path, due_ns=np.zeros(3)),
    ]
    for maker in makers:
        maker()
        with pytest.raises(InnerloopError, match="is not a workload file of this version"):
            load(path)


@pytest.mark.parametrize(
    ("overrides", "message", "remedy"),
    [
        (
            ["prompt.tokens.max=2000"],
            "prompt.tokens.max (2000) + output.tokens.max (192) = 2192 tokens, more than context_length (2048)",
            "prompt.tokens.max at most 1856, or output.tokens.max at most 48, or context_length at least 2192",
        ),
        (
            ["prompt.tokens=2000", "output.tokens=100"],
            "prompt.tokens.tokens (2000) + output.tokens.tokens (100) = 2100",
            "output.tokens.tokens at most 48",
        ),
        (
            ["prompt.shared_prefix_tokens=1900"],
            "prompt.shared_prefix_tokens (1900) + prompt.tokens.max (128) + output.tokens.max (192) = 2220",
            "output.tokens.max at most 20",
        ),
        (["prompt.tokens.max=9000"], "9192 tokens", "prompt.tokens.max at most 1856, or context_length at least 9192"),
    ],
)
def test_more_than_the_context_is_refused_with_fields_and_numbers(
    overrides: list[str], message: str, remedy: str
) -> None:
    with pytest.raises(Refused) as refused:
        make("quick", *overrides)
    assert message in str(refused.value)
    assert remedy in refused.value.details[0]


def test_exactly_the_context_is_allowed() -> None:
    assert make("quick", context_length=320).requests == 64
    with pytest.raises(Refused):
        make("quick", context_length=319)


@pytest.mark.slow
def test_too_many_prompt_tokens_are_refused_before_they_are_drawn() -> None:
    with pytest.raises(Refused, match="2\u202f000\u202f000\u202f000 tokens in total"):
        make("quick", "load.requests=1000000", "prompt.tokens=2000", "output.tokens=1")


def warm(name: str, *overrides: str, max_batch: int = 256) -> Workload:
    return warmup(load_workload(name, overrides), TINY, ONE, max_batch)


@pytest.mark.parametrize(
    ("name", "overrides", "max_batch", "requests"),
    [
        ("quick", [], 256, 64),
        ("quick", [], 8, 8),
        ("users-10", [], 256, 10),
        ("users-100", [], 64, 64),
        ("poisson-4", [], 256, 40),
        ("poisson-1", ["load.rate_per_s=0.01"], 256, 1),
        ("quick", ["warmup.requests=5"], 256, 5),
    ],
)
def test_warmup_is_a_batch_like_the_measured_one(
    name: str, overrides: list[str], max_batch: int, requests: int
) -> None:
    work = warm(name, *overrides, max_batch=max_batch)
    assert work.requests == requests
    assert (work.due_ns == 0).all()
    assert (work.next_request == -1).all()
    assert work.duration_ns == -1


def test_warmup_has_the_measured_lengths_but_other_content_and_short_outputs() -> None:
    measured, work = make("quick"), warm("quick")
    assert (work.prompt_lens == measured.prompt_lens).all()
    assert work.output_lens.tolist() == np.minimum(measured.output_lens, 32).tolist()
    assert not {tuple(p[:8]) for p in prompts(work)} & {tuple(p[:8]) for p in prompts(measured)}


def test_warmup_behind_a_shared_prefix_shares_another_one() -> None:
    overrides = ["prompt.shared_prefix_tokens=16"]
    first = {tuple(p[:16]) for p in prompts(warm("quick", *overrides))}
    assert len(first) == 1
    assert first != {tuple(p[:16]) for p in prompts(make("quick", *overrides))}


def test_a_workload_made_in_python_reads_its_file_from_the_base_folder(tmp_path: Path) -> None:
    (tmp_path / "n.txt").write_text("6\n")
    profile = WorkloadProfile.model_validate(
        {
            "name": "own",
            "prompt": {"tokens": {"kind": "file", "path": "n.txt"}},
            "output": {"tokens": 2},
            "load": {"kind": "offline", "requests": 2},
        }
    )
    assert build(profile, TINY, ONE, 64, tmp_path).prompt_lens.tolist() == [6, 6]
    assert warmup(profile, TINY, ONE, 4, tmp_path).prompt_lens.tolist() == [6, 6]
