"""Run in the torch engine's environment: what transformers would write of models of any size, without their weights.

    on_meta.py CONFIGS

CONFIGS is a JSON object of config.json by name. Each model is made by its own class on the meta device; its tensors are
taken back into the form in which `save_pretrained` stores them, one tensor for each expert included. Prints a JSON
object by name: `class`, `tensors` {name: shape}, `parameters` as transformers counts them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.core_model_loading import revert_weight_conversion


def described(config: dict[str, Any]) -> dict[str, Any]:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), dtype=torch.bfloat16)
    own = dict(model.named_parameters())  # a tied table once
    parameters = sum(tensor.numel() for tensor in own.values())
    tied = {name for name, _ in model.named_parameters(remove_duplicate=False)} - set(own)
    held = {name: tensor for name, tensor in model.state_dict().items() if name not in tied}
    stored = revert_weight_conversion(model, held)
    shapes = {name: list(tensor.shape) for name, tensor in stored.items()}
    return {"class": type(model).__name__, "tensors": shapes, "parameters": parameters}


if __name__ == "__main__":
    configs = json.loads(Path(sys.argv[1]).read_text())
    print("\n" + json.dumps({name: described(config) for name, config in configs.items()}))
