"""What is called and recorded: calls that print the same on every machine, or do so once masked."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.golden.call import HERE, Done, innerloop
from tests.golden.masks import mask, without_place

STORED = HERE / "first_version"
EXPECTED = HERE / "expected"
VERBS = (
    "run", "sweep", "suite", "find-rate", "bisect", "show", "report", "runs", "compare", "gate", "noise", "resume",
    "steps", "doctor", "watch", "profiles", "environments", "checkpoints", "ceilings", "check-engine",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Case:
    """A call: the words of its command line, and whether it writes into the run's folder, so that it needs a copy."""

    words: tuple[str, ...]
    writes: bool = False
    columns: int = 100

    @property
    def is_json(self) -> bool:
        """Whether it prints one JSON document and nothing else."""
        return "--json" in self.words

    def done(self, cwd: Path = HERE) -> Done:
        return innerloop(*self.words, cwd=cwd, columns=self.columns)

    def told(self) -> str:
        """What is compared: of a JSON document itself, else the exit code, stdout and stderr. Masked."""
        if self.writes:
            with tempfile.TemporaryDirectory() as folder:
                done = self.done(copy_of_the_runs(Path(folder)))
        else:
            done = self.done()
        text = f"$ {' '.join(self.words)}\n--- exit code {done.code}\n--- stdout\n{done.out}--- stderr\n{done.err}"
        if self.is_json and (done.code, done.err) == (0, ""):
            text = re.sub(r'"(created|id)": ".*"', r'"\1": "<new>"', done.out) if self.writes else done.out
        text = without_place(text)
        return text if self.words[0] in ("show", "steps", "runs", "compare", "gate") else mask(text)


def copy_of_the_runs(folder: Path) -> Path:
    """A folder with a copy of the stored runs, in which they may be changed."""
    shutil.copytree(STORED, folder / STORED.name)
    for job in (folder / STORED.name).rglob("job.json"):
        os.utime(job, (1, 1))  # written long before any process of today began
    return folder


def case(words: str, writes: bool = False, columns: int = 100) -> Case:
    return Case(tuple(words.split()), writes, columns)


def both(name: str, words: str, writes: bool = False, columns: int = 100) -> dict[str, Case]:
    """For people and as JSON."""
    return {name: case(words, writes, columns), f"{name}_json": case(f"{words} --json", writes, columns)}


OLD_RUNS = {
    **both("show_torch", "show first_version/torch"),
    **both("show_vllm", "show first_version/vllm"),
    **both("show_failed", "show first_version/failed/result.json"),
    **both("show_killed", "show first_version/killed", writes=True),
    "show_ladder": case("show first_version/ladder"),
    "show_ladder_json": case("show first_version/ladder/waterfall.json --json"),
    "show_ladder_http": case("show first_version/ladder/http-1"),
    "show_narrow": case("show first_version/vllm", columns=80),
    "show_pass": case("show first_version/vllm/profile-kernels"),
    "show_none": case("show first_version/none"),
    "show_trace": case("show first_version/torch --trace", writes=True),
    "show_trace_ladder": case("show first_version/ladder --trace"),
    "show_json_or_trace": case("show first_version/torch --trace --json"),
    **both("steps_torch", "steps first_version/torch"),
    **both("steps_vllm", "steps first_version/vllm --slowest 3"),
    **both("steps_pass", "steps first_version/vllm/profile-kernels --slowest 1"),
    **both("steps_http", "steps first_version/ladder/http-1"),
    "steps_killed_json": case("steps first_version/killed --json"),
    "steps_failed": case("steps first_version/failed"),
    "steps_ladder": case("steps first_version/ladder"),
    **both("compare", "compare first_version/torch first_version/vllm --margin 5%"),
    "compare_same": case("compare first_version/ladder/core-1 first_version/ladder/http-1 --no-why"),
    "compare_condition": case("compare first_version/torch first_version/vllm --no-why --fail-if itl.p99>50ms"),
    **both("compare_experiment", "compare experiment"),
    **both("gate", "gate experiment --no-why --allow-suspect --fail-if output_tokens_per_s<0.5*baseline"),
    "gate_suspect": case("gate experiment --no-why --fail-if output_tokens_per_s<0.5*baseline"),
    "gate_failed": case("gate experiment --fail-if output_tokens_per_s<97%*baseline --fail-if ttft.p50>1s"),
    "gate_undecided": case("gate first_version/torch first_version/vllm --no-why"),
    "gate_condition": case("gate experiment --fail-if output_token_per_s<1"),
    "show_experiment": case("show experiment"),
    "runs_experiments": case("runs .", columns=200),
    "compare_failed": case("compare first_version/vllm first_version/failed"),
    **both("runs", "runs first_version", writes=True, columns=200),
    "runs_where": case("runs first_version --where engine=torch --last 1", writes=True, columns=200),
    "runs_where_wrong": case("runs first_version --where modle=x", writes=True),
}

HELP = {
    f"help_{words.replace(' ', '_')}": case(f"{words} --help")
    for words in (
        *VERBS,
        *(f"environments {verb}" for verb in ("list", "create", "register", "remove")),
        *(f"checkpoints {verb}" for verb in ("plan", "create", "list", "remove")),
        *(f"ceilings {verb}" for verb in ("list", "measure", "remove")),
        *(f"profiles {verb}" for verb in ("list", "show", "check", "schema")),
    )
}
HELP |= {f"help_{room}_without_a_verb": case(room) for room in ("environments", "checkpoints", "ceilings", "profiles")}

ALL_FLAGS = "--set max_batch_size=16 --set context_length=1024 --workload-arg load.users=3 --seed 1,schedule=7"
LAYERS = "run --engine vllm --device cpu --workload few.yaml --layers"
OUT = "--out /nonexistent/out"
PLANS = {
    **both("plan_vllm", "run --engine vllm --device cpu --workload few.yaml --dry-run"),
    **both("plan_torch", f"run --engine torch --device cpu --workload users-10 {ALL_FLAGS} --dry-run"),
    "plan_default": case("run --dry-run"),
    "plan_vllm_poisson": case("run --engine vllm --device cpu --layer http --workload poisson-4 --dry-run"),
    "plan_vllm_awq": case("run --engine vllm --device cpu --model llama-tiny-awq --dry-run"),
    "plan_torch_too_large": case("run --engine torch --device cpu --set kv_cache_tokens=10000000000 --dry-run"),
    **both("plan_layers", f"{LAYERS} all --trials 2 --dry-run {OUT}"),
    **both("plan_trials", f"run --engine torch --device cpu --workload few.yaml --trials 3 --until 2% --dry-run {OUT}"),
    "plan_windows": case(f"run --engine torch --device cpu --windows few.yaml,users-10 --dry-run {OUT}"),
    "plan_layers_torch": case(f"run --engine torch --device cpu --layers engine,core --dry-run {OUT}"),
    # wide, since the command holds the checkout's path
    **both("plan_kernels", f"{LAYERS} core,http --profile kernels --dry-run {OUT}", columns=300),
    "plan_host": case(f"run --engine torch --device cpu --profile host --dry-run {OUT}", columns=300),
    "plan_steps": case(
        f"run --engine vllm --device cuda --model llama3-8b --profile kernels --profile-steps 5:25 --dry-run {OUT}",
        columns=300,
    ),
    "plan_vllm_cuda": case("run --engine vllm --device cuda --model llama3-8b --workload users-100 --dry-run"),
    "plan_torch_cuda": case("run --engine torch --device cuda --model llama-1b --dry-run"),
    **both("plan_lmdeploy", "run --engine lmdeploy --device cuda --model llama3-70b-awq --dry-run"),
    "plan_lmdeploy_pytorch": case(
        "run --engine lmdeploy --device cuda --model llama3-8b --engine-arg backend=pytorch --dry-run"
    ),
    "plan_sglang": case("run --engine sglang --device cuda --model llama3-8b-fp8-channel --dry-run"),
    "plan_parallel": case("run --engine vllm --device cuda --model llama3-70b --set tensor_parallel=4 --dry-run"),
    "plan_tensorrt_llm": case("run --engine tensorrt_llm --device cuda --model llama3-8b --dry-run"),
    **both("plan_mlc_llm", "run --engine mlc_llm --device cuda --model llama3-8b --dry-run"),
    "plan_tgi": case("run --engine tgi --device cuda --model llama3-8b-gptq --dry-run"),
    "plan_tgi_cpu": case("run --engine tgi --device cpu --dry-run"),
}

REFUSED = {
    f"refused_{name}": case(f"run {words} --dry-run")
    for name, words in {
        "engine": "--engine vlm --model lama3 --set max_bach_size=4",
        "workload": "--workload quikc",
        "workload_field": "--workload-arg prompt.token.max=3",
        "length": "--workload-arg output.tokens=0",
        "value": "--set dtype=bf16",
        "layer": "--layer cor",
        "no_layer": "--engine lmdeploy --device cuda --layer async",
        "device": "--device gpu",
        "quantization": "--engine torch --model llama3-8b-awq",
        "setting": "--engine torch --set chunked_prefill=false",
        "weights": "--engine sglang --device cuda --model llama3-8b-fp8",
        "setting_cuda": "--engine lmdeploy --model llama3-8b --set dtype=float32",
        "context": "--workload-arg output.tokens=4000 --set context_length=1024",
        "positions": "--set context_length=4096",
        "kv_cache": "--set kv_cache_tokens=64",
        "batch": "--set max_tokens_per_step=16",
        "parallel_cpu": "--engine torch --device cpu --set tensor_parallel=2",
        "heads": "--engine vllm --device cuda --model llama3-8b --set tensor_parallel=3",
        "quantization_of_model": "--engine vllm --model llama-tiny --set quantization=awq",
        "layer_of_torch": "--engine torch --layer http",
        "profile_field": "--model-arg hidden_sise=64",
        "both_pythons": "--engine torch --environment mine --engine-python /nonexistent/python",
        "python": "--engine-python /nonexistent/python",
        "environment": "--engine vllm --environment mine",
        "trials": "--trials 0",
        "windows_of_layers": "--engine torch --layers all --windows 2",
        "windows_and_workload": "--engine torch --workload quick --windows quick,users-10",
        "metric": "--trials 2 --metric ttft",
        "layers": "--engine torch --layers core",
        "layers_twice": "--engine torch --layers core,core",
        "layer_and_layers": "--engine torch --layer core --layers all",
        "profile": "--profile kernel",
        "profile_steps": "--profile kernels --profile-steps 5:2",
        "profile_cpu": "--engine torch --device cpu --profile nsys",
        "profile_layers": "--engine vllm --layers engine,async --profile kernels",
        "rate": "--device-hz 201",
        "timeout": "--timeout -1",
        "unit": "--timeout 5x",
        "no_equals": "--set max_batch_size 64",
        "bare_engine": "vllm",
        "bare_workload": "users-10",
        "flag": "--sed 1",
        "verbs_version": "--version",
        "no_value": "--engine",
        "seed": "--seed abc",
        "layers_name": "--engine vllm --layers core,htp",
        "choice": "--ceilings of",
        "label": "--label serving",
    }.items()
}
REFUSED |= {  # a plan of them can be made, and they cannot run on a machine without GPUs
    "refused_gpu_here": case("run --engine lmdeploy --model llama3-70b-awq"),
    "refused_engine_cpu": case("run --engine tgi --device cpu"),
}

MACHINE = {
    **both("doctor", "doctor"),
    **both("environments_list", "environments list"),
    "environments_remove": case("environments remove vllm"),
    "environments_register": case("environments register mine --engine vlm"),
    "checkpoints_list": case("checkpoints list"),
    "checkpoints_plan": case("checkpoints plan llama3-8b-awq"),
    "checkpoints_remove": case("checkpoints remove llama-tiny"),
    **both("ceilings_list", "ceilings list"),
    "ceilings_remove": case("ceilings remove mine"),
    **both("profiles_list", "profiles list workload"),
    **both("profiles_show", "profiles show workload quick"),
    **both("profiles_check", "profiles check few.yaml"),
    "profiles_kind": case("profiles list modle"),
    "environments_verb": case("environments lst"),
    "environments_no_such": case("environments remove vlm"),
    "ceilings_cuda": case("ceilings --device cuda"),
}

CASES = {**OLD_RUNS, **HELP, **PLANS, **REFUSED, **MACHINE}


def expected(name: str) -> Path:
    """The file in which a case's output is kept: .json for JSON documents."""
    return EXPECTED / f"{name}.{'json' if name.endswith('_json') else 'txt'}"
