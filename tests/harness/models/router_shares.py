"""Run in the torch engine's environment: the share of positions that each expert is chosen for, by folder and layer.

    router_shares.py FOLDER[:FOLDER ...] TAKEN PROMPTS

prints a JSON object {folder: [[share of expert 0, ...] of each layer with a router]}.
"""

from __future__ import annotations

import json
import os
import sys

import torch
from transformers import AutoModelForCausalLM


def main(folders: list[str], taken: int, prompts: list[list[int]]) -> None:
    found = {}
    for folder in folders:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
        with torch.no_grad():
            said = model(torch.tensor(prompts), output_router_logits=True)
        layers = []
        for logits in said.router_logits:
            chosen = logits.reshape(-1, logits.shape[-1]).topk(taken, dim=-1).indices
            counts = torch.bincount(chosen.reshape(-1), minlength=logits.shape[-1])
            layers.append((counts / len(chosen)).tolist())
        found[folder] = layers
    print("\n" + json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1].split(os.pathsep), int(sys.argv[2]), json.loads(sys.argv[3]))
