"""Routers that choose some experts oftener, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from innerloop.harness.analysis.roofline import experts_touched
from innerloop.harness.checkpoints import ensure_checkpoint, plan
from innerloop.harness.cli.errors import Refused
from innerloop.harness.models.routing import deviations, shares, simulated
from innerloop.harness.profiles import load_model
from innerloop.harness.result.roofline import cost_of
from innerloop.harness.schema.roofline import Routed
from tests.harness.checkpoints.dequantize import dense, read


def test_shares_follow_the_rank_and_sum_to_what_a_position_takes() -> None:
    """8 experts, 1 taken, exponent 1: 1/r of 2.71785..., none above 45 %."""
    found = shares(8, 1, 1.0)
    harmonic = sum(1 / rank for rank in range(1, 9))
    assert found.tolist() == pytest.approx([1 / rank / harmonic for rank in range(1, 9)])
    assert shares(8, 2, 0.0).tolist() == [0.25] * 8
    steep = shares(8, 2, 2.0)
    assert steep[:2].tolist() == [0.45, 0.45]  # cut, and what is cut goes to the others, in their proportions
    assert steep.sum() == pytest.approx(2)
    assert steep[2] / steep[3] == pytest.approx((4 / 3) ** 2)


@pytest.mark.parametrize(("experts", "taken", "zipf"), [(64, 8, 1.0), (16, 4, 1.0), (8, 2, 0.5)])
def test_rows_of_such_deviations_are_chosen_as_often(experts: int, taken: int, zipf: float) -> None:
    meant = shares(experts, taken, zipf)
    rows = deviations(meant)
    assert np.mean(rows**2) == pytest.approx(1)
    logits = np.random.default_rng(5).standard_normal((20_000, experts)) * rows
    chosen = np.argpartition(-logits, taken - 1, axis=1)[:, :taken]
    found = np.bincount(chosen.ravel(), minlength=experts) / 20_000
    assert np.abs(found - meant).max() < 0.012
    assert simulated(np.ones(experts), taken) == pytest.approx(taken / experts, rel=0.1)


def test_a_checkpoints_routers_have_the_rows_that_the_profile_asks_for(tmp_path: Path) -> None:
    model = load_model("qwen3-moe-tiny", ["routing_zipf=1", "num_hidden_layers=2", "vocab_size=512"])
    tensors, types = read(ensure_checkpoint(model, "float32", folder=tmp_path).path)
    meant = deviations(shares(16, 4, 1.0)) * 512**-0.5
    orders = []
    for layer in range(2):
        name = f"model.layers.{layer}.mlp.gate.weight"
        rows = dense(tensors[name], types[name]).std(axis=1)
        assert np.sort(rows).tolist() == pytest.approx(np.sort(meant).tolist(), rel=0.15)
        orders.append(np.argsort(rows).tolist())
    assert orders[0] != orders[1]  # another expert is the popular one


def test_a_skew_is_another_checkpoint_and_none_is_the_same_as_before() -> None:
    plain = load_model("qwen3-moe-tiny")
    kinds = {tensor.fill.kind for tensor in plan(plain, "float32") if tensor.name.endswith("gate.weight")}
    assert kinds == {"normal"}
    assert "routing_zipf" not in plain.model_dump()
    skewed = load_model("qwen3-moe-tiny", ["routing_zipf=1"])
    assert skewed.model_dump()["routing_zipf"] == 1.0
    assert skewed.parameters() == plain.parameters()


def test_a_skewed_router_touches_the_experts_of_a_simulated_one() -> None:
    """16 positions, 32 experts of which 4 are taken, exponent 1: against 4 000 simulated steps, within 1 %."""
    of = cost_of(
        load_model("qwen3-moe-tiny", ["config.num_experts=32", "routing_zipf=1"]).model_dump()
        and {
            "model_profile": load_model("qwen3-moe-tiny", ["config.num_experts=32", "routing_zipf=1"]).model_dump(
                mode="json"
            ),
            "settings": {"dtype": "float32"},
        },
        {},
    )
    assert of.routed is not None
    assert of.routed.shares is not None
    rows = deviations(np.array(of.routed.shares))
    logits = np.random.default_rng(9).standard_normal((4000, 16, 32)) * rows
    chosen = logits.argpartition(-4, axis=-1)[..., -4:]
    touched = np.mean([len(np.unique(one)) for one in chosen]) / 32
    assert experts_touched(np.array([16.0]), of.routed)[0] == pytest.approx(touched, rel=0.01)
    even = experts_touched(np.array([16.0]), Routed(1.0, 32, 4))[0]
    assert touched < even


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("llama-tiny", "routing_zipf=1", "routed experts as the 0 used per position"),
        (
            "qwen3-moe-tiny",
            "config.num_experts_per_tok=8",
            "more than twice as many routed experts as the 8 used per position",
        ),
    ],
)
def test_a_skew_that_cannot_be_is_refused(name: str, change: str, words: str) -> None:
    with pytest.raises(Refused, match=words):
        load_model(name, ["routing_zipf=1", change])
