"""Which engine takes which shipped model, as `--dry-run` says it: the page docs/reference/engines-and-models.md.

    python -m tests.harness.models.matrix

writes it anew. Of every engine and kind of device each model is resolved as by `innerloop run --dry-run --engine ENGINE
--model MODEL --device DEVICE`, on a machine that lacks nothing; models in float32 with `--set dtype=bfloat16` on GPUs.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from unittest import mock

from innerloop.harness.cli.errors import Refused
from innerloop.harness.cli.words import number
from innerloop.harness.profiles import engines, load_model, names
from innerloop.harness.spec import adapter_settings
from innerloop.harness.spec import resolve as resolving
from innerloop.harness.spec.adapter_settings import native_settings, preparation_steps
from innerloop.harness.spec.model import RunRequest
from tests.harness.machines import CPU, GPU

PAGE = Path(__file__).resolve().parents[3] / "docs" / "reference" / "engines-and-models.md"
HEAD = """\
# Engines and models

Made by `python -m tests.harness.models.matrix`: what `innerloop run --dry-run` says of each engine and each model that
is shipped, on a machine that lacks nothing (models in float32 on GPUs with `--set dtype=bfloat16`). "yes": planned; a
number: refused, for the reason below. A dry run also names the architecture or the format of the weights, and which
engines can. A yes says that nothing is known against it, not that it was run: [families-run.md](families-run.md) lists
what was. Engine `http` measures whatever your own server has.
"""
GENERAL = (  # what a reason says of the model and of the engine, both of which the table has
    (r"^architecture=\w+: ", "its architecture: "),
    (
        r"^[\w ]+ on \w+ cannot run [\w-]+ weights; it runs only (.+) weights$",
        r"its weights: the engine runs only \1 ones",
    ),
    (r"^quantization=[\w-]+: ", "its weights: "),
    (r"(: )[\w -]+? on (\w+) runs only (\w+) with this adapter$", r"\1on \2 this adapter runs only \3"),
    (r"(: )(?:MLC-LLM|TensorRT-LLM) has no such model.*$", r"\1the engine has no such model"),
)


def refusal(engine: str, device: str, model: str, dtype: str) -> str | None:
    """Why a run would be refused; None: it is planned."""
    settings = ("dtype=bfloat16",) if dtype == "float32" and device == "cuda" else ()
    asked = RunRequest(engine=engine, model=model, device=device, settings=settings, planning=True)
    try:
        spec = resolving.resolve(asked, GPU if device == "cuda" else CPU)
        native_settings(spec)
        preparation_steps(spec)
    except Refused as refused:
        return general(str(refused).replace(f" ({model})", "").removeprefix(f"{engine} does not support "))
    return None


def general(why: str) -> str:
    """A refusal's reason in words that all models and engines share that are refused for it."""
    return functools.reduce(lambda text, rule: re.sub(rule[0], rule[1], text), GENERAL, why)


def page() -> str:
    """The page's text; what is registered on this machine does not count."""
    shipped = [engine for engine in engines.all_engines() if engine.plugin is None and engine.name != "http"]
    with (
        mock.patch.object(resolving, "load_model", functools.cache(resolving.load_model)),
        mock.patch.object(engines, "load_engine", functools.cache(engines.load_engine)),
        mock.patch.object(engines, "all_engines", return_value=shipped),
        mock.patch.object(resolving.registered, "automatic", return_value=None),
        mock.patch.object(resolving, "load_workload", functools.cache(resolving.load_workload)),
        mock.patch.object(adapter_settings, "_able", return_value=[]),  # the others, for the lines below the reason
    ):
        return table([(engine.name, device) for engine in shipped for device in sorted(engine.environments)])


def table(columns: list[tuple[str, str]]) -> str:
    """A row for each model, a column for each engine and kind of device, and the reasons."""
    reasons: dict[str, int] = {}
    rows = []
    for name in names("models"):
        model = load_model(name)
        size = model.weights_bytes()
        row = [f"`{name}`", "?" if size is None else f"{size / 1e9:.2f} GB" if size > 1e9 else f"{size / 1e6:.0f} MB"]
        for engine, device in columns:
            why = refusal(engine, device, name, model.dtype)
            row.append("yes" if why is None else number(reasons.setdefault(why, len(reasons) + 1)))
        rows.append(row)
    heads = [["model", "weights", *(f"{engine} {device}" for engine, device in columns)]]
    lines = ["| " + " | ".join(row) + " |" for row in [*heads, ["---"] * len(heads[0]), *rows]]
    told = [f"{count}. {why}" for why, count in reasons.items()]
    return "\n".join([HEAD, *lines, "", "## Reasons", "", *told, ""])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
