"""Run in the torch engine's environment: what prompt_logprobs.py says, by a plain forward pass of transformers.

forward_logprobs.py FOLDER[:FOLDER ...] PROMPTS
"""

from __future__ import annotations

import json
import os
import sys

import torch
from transformers import AutoModelForCausalLM


def logprobs(checkpoint: str, prompts: list[list[int]]) -> list[list[float]]:
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32, attn_implementation="eager")
    found = []
    for prompt in prompts:
        with torch.no_grad():
            logits = model(torch.tensor([prompt])).logits[0].double().log_softmax(-1)
        found.append([float(logits[i, token]) for i, token in enumerate(prompt[1:])])
    return found


def main(folders: list[str], prompts: list[list[int]]) -> None:
    found = [logprobs(folder, prompts) for folder in folders]
    print("\n" + json.dumps(found[0] if len(folders) == 1 else found))


if __name__ == "__main__":
    main(sys.argv[1].split(os.pathsep), json.loads(sys.argv[2]))
