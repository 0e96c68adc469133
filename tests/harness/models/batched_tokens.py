"""Run in the torch engine's environment: greedy tokens of continuous batching and of a forward pass a token, as JSON.

batched_tokens.py FOLDER ATTENTION PROMPTS TOKENS
"""

from __future__ import annotations

import json
import sys

import torch
from transformers import AutoModelForCausalLM, GenerationConfig
from transformers.generation.configuration_utils import ContinuousBatchingConfig


def main(folder: str, attention: str, prompts: list[list[int]], tokens: int) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation=attention)
    batched = model.generate_batch(
        prompts,
        generation_config=GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0, max_new_tokens=tokens),
        continuous_batching_config=ContinuousBatchingConfig(
            num_blocks=8, max_batch_tokens=256, use_async_batching=False
        ),
        progress_bar=False,
    )
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    meant = []
    for prompt in prompts:
        whole = list(prompt)
        for _ in range(tokens):
            with torch.no_grad():
                whole.append(int(plain(torch.tensor([whole])).logits[0, -1].argmax()))
        meant.append(whole[len(prompt) :])
    found = [batched[name].generated_tokens for name in sorted(batched, key=lambda name: int(name.rpartition("_")[2]))]
    print("\n" + json.dumps({"batched": found, "plain": meant}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), int(sys.argv[4]))
