"""Run in the torch engine's environment: what transformers, decoding greedily, makes of a run's requests, as JSON.

`plain_tokens.py CHECKPOINT WORKLOAD.npz`: the tokens of each request.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import torch
from transformers import AutoModelForCausalLM


def main(checkpoint: str, workload: str) -> None:
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    with np.load(workload, allow_pickle=False) as drawn:
        prompts = np.split(drawn["prompt_tokens"], drawn["prompt_offsets"][1:-1])
        lengths = drawn["output_lens"].tolist()
    found = []
    for prompt, length in zip(prompts, lengths, strict=True):
        given = torch.tensor(prompt[None], dtype=torch.int64)
        whole = model.generate(
            given, attention_mask=torch.ones_like(given), do_sample=False, max_new_tokens=length, eos_token_id=-1,
            pad_token_id=0,
        )  # fmt: skip
        found.append(whole[0, len(prompt) :].tolist())
    print("\n" + json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
