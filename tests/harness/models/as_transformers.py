"""Run in the torch engine's environment: for each folder, what transformers writes of such a model, and loads of it.

Prints a JSON object by folder: `written` {tensor: shape}, `parameters`, `missing` and `unexpected` names on loading.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from transformers import AutoConfig, AutoModelForCausalLM


def header(path: Path) -> dict[str, list[int]]:
    with open(path, "rb") as file:
        entries = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    entries.pop("__metadata__", None)
    return {name: entry["shape"] for name, entry in entries.items()}


def main(folders: list[str]) -> None:
    found = {}
    for folder in folders:
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
        with tempfile.TemporaryDirectory() as made:
            model.save_pretrained(made)
            written = header(Path(made) / "model.safetensors")
        _, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
        found[folder] = {
            "class": type(model).__name__,
            "written": written,
            "parameters": sum(p.numel() for p in model.parameters()),
            **{kind: sorted(map(str, report[f"{kind}_keys"])) for kind in ("missing", "unexpected", "mismatched")},
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
