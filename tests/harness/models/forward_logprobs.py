"""Run in the torch engine's environment: what prompt_logprobs.py says, by a plain forward pass of transformers."""

from __future__ import annotations

import json
import sys

import torch
from transformers import AutoModelForCausalLM


def main(checkpoint: str, prompts: list[list[int]]) -> None:
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32, attn_implementation="eager")
    found = []
    for prompt in prompts:
        with torch.no_grad():
            logits = model(torch.tensor([prompt])).logits[0].double().log_softmax(-1)
        found.append([float(logits[i, token]) for i, token in enumerate(prompt[1:])])
    print("\n" + json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
