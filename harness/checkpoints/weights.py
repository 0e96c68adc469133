"""A folder of weights that every engine of a comparison is given, and the check of one that the user brings.

Nothing in the folder is ever executed: the configuration is read as data, and pickled weights are refused.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from innerloop.harness.checkpoints.safetensors_file import INDEX, JSON_LIMIT_BYTES, whole_size
from innerloop.harness.cli.errors import Refused
from innerloop.harness.cli.reading import read_bytes, read_json
from innerloop.harness.models.families import family_of
from innerloop.harness.models.family import Family
from innerloop.harness.models.fields import wrong_fields, wrong_parts
from innerloop.harness.profiles.published import (
    SHAPE,
    architecture_of,
    block_structure,
    first,
    packed_layout,
    quantization_method,
    text_part,
)
from innerloop.harness.store.versions import Document

if TYPE_CHECKING:
    from innerloop.harness.profiles.models import ModelProfile
    from innerloop.harness.profiles.quantization import Quantization

LONGEST_NAME = 255  # bytes of a file's name
SHOWN = 10
SIDE_FILES = ("hf_quant_config.json", "quantize_config.json", "quant_config.json")  # of ModelOpt, AutoGPTQ, AutoAWQ
LAYOUT = {  # what of a method's details decides how the weights lie, by config.json's names; absent is as here
    "awq": {"version": "gemm", "zero_point": True},
    "gptq": {"sym": True, "desc_act": False, "checkpoint_format": "gptq"},
}
BITS = ("bits", "w_bit")  # names in config.json
GROUP_SIZES = ("group_size", "q_group_size")
PICKLES = (".bin", ".pt", ".pth")
FAMILY_FIELDS = (  # of some families only
    "moe_intermediate_size",
    "num_experts",
    "n_routed_experts",
    "n_shared_experts",
    "num_experts_per_tok",
    "first_k_dense_replace",
    "kv_lora_rank",
    "q_lora_rank",
    "qk_nope_head_dim",
    "qk_rope_head_dim",
    "v_head_dim",
)
NEWER = {"num_experts": ("num_local_experts",)}  # as transformers 5 calls them


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder that an engine can load: `bytes` counts the weight files, `seconds` is what this call took.

    `cached`: nothing had to be written. `digest`: SHA-256 of what the files were made from if synthetic, else of
    config.json with the weight files' names and sizes.
    """

    path: Path
    bytes: int
    cached: bool
    digest: str
    seconds: float
    synthetic: bool


def use_weights(path: str | Path, model: ModelProfile) -> Checkpoint:
    """The user's own folder, once it is sure that it holds whole safetensors weights of the profile's architecture.

    Raises:
        Refused: no such folder, another architecture, missing or cut files, pickled weights.
    """
    started = time.monotonic()
    folder = Path(os.path.expanduser(path))
    if not folder.is_dir():
        raise Refused(f"--weights {path}: {'not a folder' if folder.exists() else 'no such folder'}")
    folder = folder.resolve()
    if not (folder / "config.json").is_file():
        raise Refused(f"--weights {path}: there is no config.json in the folder")
    config = read_config(folder)
    differences = compare(config, model)
    if differences:
        raise Refused(
            f"--weights {path} does not match the model profile {model.name}: {'; '.join(differences)}",
            "leave out --model: the folder's own config.json then describes the model",
        )
    if config.get("quantization_config") is None:
        refuse_hidden_quantization(folder, config)
    sizes = {file.name: whole_size(file, named) for file, named in weight_files(folder).items()}
    digest = hashlib.sha256(read_bytes(folder / "config.json", "config.json"))
    digest.update(json.dumps(sizes, sort_keys=True).encode())
    return Checkpoint(folder, sum(sizes.values()), True, digest.hexdigest(), time.monotonic() - started, False)


def refuse_hidden_quantization(folder: Path, config: Document) -> None:
    """Some engines look beyond config.json's quantization_config, and would not run what the others do.

    Raises:
        Refused: another place says that the weights are quantized.
    """
    places = [name for name in SIDE_FILES if (folder / name).is_file()]
    places += ["config.json's compression_config"] if config.get("compression_config") else []
    if places:
        raise Refused(
            f"--weights {folder}: {places[0]} says that the weights are quantized, but config.json has no"
            " quantization_config, so engines would run different weights",
            "use a folder whose config.json has quantization_config (ModelOpt checkpoints are not supported)",
        )


def read_object(path: Path) -> Document:
    """A JSON file that must hold an object.

    Raises:
        Refused: unreadable, too large, not JSON as engines read it, or not an object.
    """
    if read_bytes(path, str(path), JSON_LIMIT_BYTES).startswith(codecs.BOM_UTF8):
        raise Refused(
            f"{path} begins with a byte order mark, with which engines do not read it",
            f"remove it: sed -i '1s/^\\xef\\xbb\\xbf//' {quote(str(path))}",
        )
    content = read_json(path, str(path), JSON_LIMIT_BYTES)
    if not isinstance(content, dict):
        raise Refused(f"{path} must contain a JSON object, not a {type(content).__name__}")
    return content


def read_config(folder: Path) -> Document:
    """The config.json of a folder of weights.

    Raises:
        Refused: as `read_object`, or what adapters and families read of it is not of its kind.
    """
    config = read_object(folder / "config.json")
    for wrong in wrong_in(config):
        raise Refused(f"{folder / 'config.json'}: {wrong}")
    return config


def wrong_in(config: Document) -> Iterator[str]:
    yield from wrong_parts(config)
    if family_of(architecture_of(config) or "") is not None:
        yield from wrong_fields(text_part(config))


def compare(config: Document, model: ModelProfile) -> list[str]:
    """The numbers that decide speed and memory where config.json and the profile disagree, as sentences."""
    names, text = config.get("architectures"), text_part(config)
    found: list[tuple[str, object, object]] = []
    if not isinstance(names, list) or model.architecture not in (*names, architecture_of(config)):
        found.append(("architectures", model.architecture, names))
    shape = model.shape()
    heads, hidden = text.get("num_attention_heads"), text.get("hidden_size")
    implied: dict[str, object] = {"num_key_value_heads": heads, "tie_word_embeddings": False}
    if isinstance(heads, int) and isinstance(hidden, int) and heads > 0:
        implied["head_dim"] = hidden // heads
    if model.family is not None:
        implied |= model.family.defaults
    fields = [name for name in SHAPE if model.family is None or name not in model.family.unwritten]
    for field in [*fields, *FAMILY_FIELDS]:
        here = first(text, field, *NEWER.get(field, ()))
        here = implied.get(field) if here is None else here
        meant = first(shape, field, *NEWER.get(field, ()))
        if here != meant:
            found.append((field, meant, here))
    if model.family is not None and not found:
        windows, here = windows_of(model.family, shape), windows_of(model.family, {**shape, **text})
        found += [("sliding_window", windows, here)] if windows != here else []
    positions = text.get("max_position_embeddings")
    if not isinstance(positions, int) or positions < model.max_position_embeddings:
        found.append(("max_position_embeddings", model.max_position_embeddings, positions))
    stored = config.get("quantization_config") or text.get("quantization_config")
    found += compare_quantization(stored, model.quantization)
    return [
        f"{field}: {_shown(profile)} in the profile, {_shown(here)} in the folder's config.json"
        for field, profile, here in found
    ]


def _shown(value: object) -> str:
    return "missing" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def windows_of(family: Family, config: Mapping[str, Any]) -> list[int | None] | None:
    """What each layer sees at most; None: the configuration cannot be right."""
    try:
        return [layer.window for layer in family.attention(config)]
    except (TypeError, ValueError, LookupError):
        return None


def compare_quantization(here: Any, profile: Quantization | None) -> list[tuple[str, object, object]]:
    """Where config.json's quantization_config says another method, width, group or block than the profile."""
    folder = here if isinstance(here, dict) else {}
    method = quantization_method(here)
    expected_method = None if profile is None else profile.method
    if method != expected_method:
        return [("quantization", expected_method or "none", method or "none")]
    spellings: dict[str, tuple[int, tuple[str, ...]]] = {}
    if profile is not None:
        spellings = {"bits": (profile.bits, BITS), "group_size": (profile.group_size, GROUP_SIZES)}
    found: list[tuple[str, object, object]] = []
    if profile is not None and method == "compressed-tensors":
        meant = {"bits": profile.bits, "group_size": profile.group_size, "zero_point": profile.zero_point}
        here = {**meant, **packed_layout(folder)}
        return [
            (f"quantization {name}", meant.get(name, "pack-quantized"), here[name])
            for name in here
            if here[name] != meant.get(name)
        ]
    for field, (expected, keys) in spellings.items():
        value = next((folder[key] for key in keys if key in folder), None)
        if value is not None and value != expected:
            found.append((f"quantization {field}", expected, value))
    for field, value in LAYOUT.get(str(method), {}).items():
        if field in folder and str(folder[field]).lower() != str(value).lower():
            found.append((f"quantization {field}", value, folder[field]))
    side = None if profile is None else profile.block_size
    blocks = folder.get("weight_block_size") or block_structure(folder)
    if blocks != (side and [side, side]):
        found.append(("quantization block_size", side or "none", blocks))
    return found


def weight_files(folder: Path) -> dict[Path, set[str] | None]:
    """The safetensors files that engines will read, each with the tensors that the index says are in it: the files that
    the index names, or without one every one in the folder, with None.

    Raises:
        Refused: a file that is named but missing, a name that leads outside, pickled weights only, or none at all.
    """
    index = folder / INDEX
    if index.is_file():
        return indexed(folder, index)
    found = sorted(file for file in folder.glob("*.safetensors") if file.is_file())
    if found:
        return dict.fromkeys(found)
    pickles = sorted(file.name for file in folder.iterdir() if file.suffix in PICKLES)
    if pickles:
        raise Refused(
            f"{folder} contains pickled weights ({pickles[0]}), which can run code when loaded; they are not supported",
            "convert them to safetensors, for instance with transformers' save_pretrained(folder)",
        )
    raise Refused(f"{folder} has no *.safetensors files")


def indexed(folder: Path, index: Path) -> dict[Path, set[str] | None]:
    """The files that the index names, with their tensors.

    Raises:
        Refused: as `weight_files`.
    """
    names = read_object(index).get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise Refused(f"{index} has no weight_map of tensor names to file names")
    tensors: dict[str, set[str]] = {}
    for tensor, name in names.items():
        if (
            "/" in name
            or "\\" in name
            or not name.endswith(".safetensors")
            or len(name.encode("utf-8", "surrogatepass")) > LONGEST_NAME
        ):
            raise Refused(f"{index} names {name[:60]!r}, which is not a safetensors file in this folder")
        tensors.setdefault(name, set()).add(tensor)
    there = set(os.listdir(folder))
    missing = sorted(name for name in tensors if name not in there)
    if missing:
        more = f"and {len(missing) - SHOWN} more" if len(missing) > SHOWN else None
        shown = [*missing[:SHOWN], *filter(None, [more])]
        raise Refused(f"{folder}: {len(missing)} of {len(tensors)} weight files are missing", *shown)
    return {folder / name: tensors[name] for name in sorted(tensors)}
