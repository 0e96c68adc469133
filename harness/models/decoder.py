"""The parts that most decoders share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from innerloop.harness.models.stored import ATTENTION_GAIN, Attention, Config, Stored, linear, norm

Part = Callable[[Config, str, int], Iterator[Stored]]  # of a layer: its configuration, its name, its number


def decoder(config: Config, layer: Part, norm_value: float = 1.0) -> Iterator[Stored]:
    """Embedding, layers, the last norm, and lm_head unless the embedding is used for it."""
    hidden, rows = config["hidden_size"], config["vocab_size"]
    yield Stored("model.embed_tokens.weight", (rows, hidden), "embedding", hidden**-0.5)
    for i in range(config["num_hidden_layers"]):
        yield from layer(config, f"model.layers.{i}", i)
    yield norm("model.norm", hidden, norm_value)
    if not config["tie_word_embeddings"]:
        yield Stored("lm_head.weight", (rows, hidden), "head", hidden**-0.5)


def queries_keys_values(config: Config, name: str, *, bias: bool = False, out_bias: bool = False) -> Iterator[Stored]:
    """The four matrices of grouped-query attention."""
    hidden, queries, keys = config["hidden_size"], heads_size(config), kv_size(config)
    yield from linear(f"{name}.q_proj", queries, hidden, bias=bias)
    yield from linear(f"{name}.k_proj", keys, hidden, bias=bias)
    yield from linear(f"{name}.v_proj", keys, hidden, bias=bias)
    yield from linear(f"{name}.o_proj", hidden, queries, bias=out_bias, gain=ATTENTION_GAIN)


def gated(name: str, hidden: int, inner: int, *, bias: bool = False, experts: int = 0) -> Iterator[Stored]:
    """A gated feed-forward block of three matrices, or one for each expert."""
    yield from linear(f"{name}.gate_proj", inner, hidden, bias=bias, experts=experts)
    yield from linear(f"{name}.up_proj", inner, hidden, bias=bias, experts=experts)
    yield from linear(f"{name}.down_proj", hidden, inner, bias=bias, experts=experts)


def router(name: str, experts: int, hidden: int) -> Stored:
    """What chooses each position's experts; random, so that all are chosen equally often."""
    return Stored(f"{name}.weight", (experts, hidden), "router", hidden**-0.5)


def heads_size(config: Config) -> int:
    return int(config["num_attention_heads"] * config["head_dim"])


def kv_size(config: Config) -> int:
    return int(config["num_key_value_heads"] * config["head_dim"])


def grouped(config: Config, window: int | None = None) -> Attention:
    """Grouped-query attention of one layer."""
    dim, kv = config["head_dim"], config["num_key_value_heads"]
    return Attention(config["num_attention_heads"], dim, dim, 2 * kv * dim, kv, window)


def everywhere(config: Config) -> list[Attention]:
    """Every layer sees the whole context."""
    return [grouped(config)] * int(config["num_hidden_layers"])


def by_type(config: Config, types: list[str]) -> list[Attention]:
    """Layers of type `sliding_attention` see a window, the others the whole context."""
    window = config.get("sliding_window")
    return [grouped(config, window if kind == "sliding_attention" else None) for kind in types]


def layer_types(config: Config, full_every: int) -> list[str]:
    """config.json's own list, or else every `full_every`-th layer sees the whole context."""
    own = config.get("layer_types")
    if own:
        return list(own)
    numbers = range(1, config["num_hidden_layers"] + 1)
    return ["sliding_attention" if number % full_every else "full_attention" for number in numbers]
