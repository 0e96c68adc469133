"""What a model with synthetic weights computes, in a few lines of numpy: finite, varied, and clear in its choice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from innerloop.harness.checkpoints import ensure_checkpoint
from innerloop.harness.profiles import load_model
from innerloop.harness.profiles.models import ModelProfile

pytestmark = pytest.mark.slow

SHAPE = ["hidden_size=128", "intermediate_size=384", "num_attention_heads=8", "num_key_value_heads=4", "head_dim=16"]


def norm(x: np.ndarray, weight: np.ndarray, eps: float) -> np.ndarray:
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * weight


def rotated(x: np.ndarray, theta: float) -> np.ndarray:
    """Rotary embedding of x, shape [heads, positions, head_dim]."""
    half = x.shape[-1] // 2
    angles = (np.arange(x.shape[1])[:, None] * theta ** (-np.arange(half) / half)).astype(np.float32)
    first, second = x[..., :half], x[..., half:]
    cos, sin = np.cos(angles, dtype=np.float32), np.sin(angles, dtype=np.float32)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def forward(model: ModelProfile, w: dict[str, np.ndarray], tokens: np.ndarray) -> tuple[np.ndarray, float]:
    """The logits [positions, vocab_size] of one prompt, and the largest number met on the way."""
    x, largest = w["model.embed_tokens.weight"][tokens], 0.0
    positions, group = len(tokens), model.num_attention_heads // model.num_key_value_heads
    future = np.triu(np.full((positions, positions), -np.inf, np.float32), 1)
    for i in range(model.num_hidden_layers):
        p = f"model.layers.{i}."
        h = norm(x, w[p + "input_layernorm.weight"], model.rms_norm_eps)
        q, k, v = (
            (h @ w[f"{p}self_attn.{name}_proj.weight"].T).reshape(positions, -1, model.head_dim).swapaxes(0, 1)
            for name in "qkv"
        )
        q, k = rotated(q, model.rope_theta), rotated(k, model.rope_theta)
        k, v = k.repeat(group, axis=0), v.repeat(group, axis=0)
        scores = q @ k.swapaxes(1, 2) * np.float32(model.head_dim**-0.5) + future
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        mixed = (shares @ v).swapaxes(0, 1).reshape(positions, -1)
        x = x + mixed @ w[p + "self_attn.o_proj.weight"].T
        h = norm(x, w[p + "post_attention_layernorm.weight"], model.rms_norm_eps)
        gate, up = h @ w[p + "mlp.gate_proj.weight"].T, h @ w[p + "mlp.up_proj.weight"].T
        inner = gate / (1 + np.exp(-gate)) * up
        x = x + inner @ w[p + "mlp.down_proj.weight"].T
        largest = max([largest, *(float(np.abs(a).max()) for a in (q, k, v, gate, up, inner, x))])
    head = w["model.embed_tokens.weight" if model.tie_word_embeddings else "lm_head.weight"]
    return norm(x, w["model.norm.weight"], model.rms_norm_eps) @ head.T, largest


@pytest.mark.parametrize(("layers", "tied"), [(8, "true"), (8, "false"), (80, "false")])
def test_logits_are_finite_varied_and_clear(tmp_path: Path, layers: int, tied: str) -> None:
    model = load_model("llama-tiny", [*SHAPE, f"num_hidden_layers={layers}", f"tie_word_embeddings={tied}"])
    weights = load_file(ensure_checkpoint(model, "float32", folder=tmp_path).path / "model.safetensors")
    count = 8 if layers < 80 else 2
    prompts = np.random.default_rng(0).integers(3, model.vocab_size, (count, 64))
    made = [forward(model, weights, prompt) for prompt in prompts]
    logits = np.concatenate([logits for logits, _ in made])
    assert np.isfinite(logits).all()
    assert max(largest for _, largest in made) < 200  # float16 ends at 65504
    assert logits.std() == pytest.approx(1, rel=0.1)
    assert len(np.unique(logits.argmax(-1))) > 0.78 * 64 * count
    second, first = np.sort(logits, axis=-1)[:, -2:].T
    assert np.mean(first - second > 1e-3) > 0.98
    assert np.median(first - second) > 0.1


def test_what_a_model_says_depends_on_the_whole_context(tmp_path: Path) -> None:
    model = load_model("llama-tiny", SHAPE)
    weights = load_file(ensure_checkpoint(model, "float32", folder=tmp_path).path / "model.safetensors")
    prompt = np.random.default_rng(0).integers(3, model.vocab_size, 64)
    other = prompt.copy()
    other[0] = 77
    last, changed = forward(model, weights, prompt)[0][-1], forward(model, weights, other)[0][-1]
    assert np.abs(last - changed).mean() > 0.05
