"""Run by vLLM's interpreter: how far its CPU kernel's rotation is from its own PyTorch form, as JSON.

`views`: of queries [positions, heads, 64] inside of longer vectors, as its latent attention (MLA) passes them, by
position and head. `flat`: of the same numbers as [positions, heads x 64].
"""

from __future__ import annotations

import json

import torch
from vllm.config import VllmConfig, set_current_vllm_config

POSITIONS, HEADS = 5, 3


def main() -> None:
    from vllm.model_executor.layers.rotary_embedding import get_rope

    plain = {"rope_type": "default", "rope_theta": 10000.0}
    with set_current_vllm_config(VllmConfig()):
        rope = get_rope(64, max_position=128, rope_parameters=plain, is_neox_style=False, dtype=torch.float32)
    torch.manual_seed(0)
    queries, latents = torch.randn(POSITIONS, HEADS, 192), torch.randn(POSITIONS, 576)
    at, keys = torch.arange(POSITIONS), latents[:, 512:]
    meant = rope.forward_native(at, queries[..., 128:].clone(), keys.clone().unsqueeze(1))[0]
    views = rope.forward_cpu(at, queries.clone()[..., 128:], latents.clone()[:, 512:].unsqueeze(1))[0]
    flat = rope.forward_cpu(at, queries[..., 128:].reshape(POSITIONS, -1).clone(), keys.clone())[0].view_as(meant)
    found = {"views": views - meant, "flat": flat - meant}
    print("\n" + json.dumps({name: one.abs().amax(-1).tolist() for name, one in found.items()}))


if __name__ == "__main__":
    main()
