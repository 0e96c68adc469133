"""Run in the torch engine's environment: folders as users have them, made by transformers' own classes.

    own_folders.py ROOT PROMPTS

makes a folder in ROOT for each of MODELS, in several files with an index, and prints a JSON object by folder: the
logarithms of the prompts' probabilities by a forward pass, as prompt_logprobs.py does.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

SHAPE: dict[str, Any] = {
    "hidden_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "intermediate_size": 192,
    "vocab_size": 512,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "initializer_range": 0.1,
}
LLAMA3 = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen2.5": ("qwen2", {"tie_word_embeddings": True}),
    "qwen3": ("qwen3", {"tie_word_embeddings": False}),
    "gemma-3": ("gemma3_text", {"sliding_window": 32, "num_hidden_layers": 6, "query_pre_attn_scalar": 32}),
    "mixtral": ("mixtral", {"num_local_experts": 4, "num_experts_per_tok": 2, "tie_word_embeddings": False}),
    "llama-tied": (
        "llama",
        {
            "tie_word_embeddings": True,
            "rope_scaling": {**LLAMA3, "original_max_position_embeddings": 64},
            "rope_theta": 500000.0,
        },
    ),
}


def main(root: Path, prompts: list[list[int]]) -> None:
    found = {}
    for name, (model_type, fields) in MODELS.items():
        torch.manual_seed(7)
        config = AutoConfig.for_model(model_type, **{**SHAPE, **fields})
        made = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32).eval()
        made.save_pretrained(root / name, max_shard_size="200KB")
        model = AutoModelForCausalLM.from_pretrained(root / name, attn_implementation="eager", dtype=torch.float32)
        found[name] = [logprobs(model, prompt) for prompt in prompts]
    print("\n" + json.dumps(found))


def logprobs(model: torch.nn.Module, prompt: list[int]) -> list[float]:
    with torch.no_grad():
        logits = model(torch.tensor([prompt])).logits[0].double().log_softmax(-1)
    return [float(logits[i, token]) for i, token in enumerate(prompt[1:])]


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
