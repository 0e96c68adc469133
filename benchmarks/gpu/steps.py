"""The steps of a session on a GPU machine, the most important first; and the same steps small, for a CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

RUN = ("-m", "harness.run")
TINY = "llama-tiny"
LIMITS = ("--set", "kv_memory_fraction=0.85", "--set", "max_batch_size=256")
# A small cache. The reference's mask is as wide as the cache, and before torch 2.13 only so much of it is read rightly.
# Before it replays a kernel ncu saves the memory that the kernel may write: little of it, or each replay copies it all.
FEW = ("--set", "kv_cache_tokens=40000", "--set", "max_batch_size=32")
MAKE_ROOM = (  # the session's own checkpoints, in a cache folder of its own
    "import os, shutil; shutil.rmtree(os.path.join(os.environ['INNERLOOP_HOME'], 'checkpoints'), ignore_errors=True)"
)
GIVE_UP = ("--load-timeout", "300", "--hang-timeout", "60")
MINUTE = ("--workload-arg", "load.duration_s=60", "--workload-arg", "load.arrive_over_s=4")
NCU = ("--profile", "ncu", "--profile-steps", "20:22")
HOST = ("--profile", "host")  # in its place where there is no GPU
READ_NCU = (  # its report in words: the figures of each kernel
    "import subprocess, sys; from harness.profiling.tools import find; sys.exit(subprocess.call([find('ncu') or 'ncu', "
    "'--import', sys.argv[1], '--page', 'details', '--csv', '--print-summary', 'per-kernel']))"
)
SOON = ("--load-timeout", "150")  # for what was loaded before: a layer that does not come up should not cost all
OFFLINE = ("--workload", "offline-decode", "--workload-arg", "load.requests=256")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the steps run: innerloop's interpreter, one that has torch, the folder for their runs, and whether it is a
    rehearsal."""

    python: str
    torch: str
    folder: Path
    small: bool


@dataclass(frozen=True, slots=True)
class Step:
    """Commands that belong together, each the arguments of a Python.

    needs: the engines whose environments it uses; `together`: none of its commands says anything without all of them.
    seconds: what it should take; with less left it is not begun.
    """

    name: str
    seconds: float
    needs: tuple[str, ...]
    commands: Callable[[Place], Sequence[Sequence[str]]]
    together: bool = False


def engine(place: Place, name: str, model: str, *more: str, run: str, limits: Sequence[str] = LIMITS) -> list[str]:
    """One run of an engine, in the folder `run`-MODEL. On a GPU all engines get the same settings."""
    if place.small and name == "lmdeploy":  # it has no CPU path: its plan is what can be rehearsed
        return [*RUN, "--engine", name, "--model", model, "--device", "cuda", "--dry-run", *limits, *more]
    if place.small:
        model = TINY + model.removeprefix("llama3-8b").removeprefix("llama3-70b")
    named = ["--engine", name, "--environment", f"session-{name}", "--model", model, *(() if place.small else limits)]
    return [*RUN, *named, *GIVE_UP, *more, "--out", str(place.folder / f"{run}-{model}")]


def users(place: Place, name: str, model: str, count: int, *more: str) -> list[str]:
    """A closed loop of `count` users for a minute; small: 4 users for 4 s."""
    length = MINUTE if not place.small else (
        "--workload-arg", "load.duration_s=4", "--workload-arg", "load.arrive_over_s=1",
        "--workload-arg", "load.users=4", "--workload-arg", "output.tokens.max=64",
    )  # fmt: skip
    return engine(place, name, model, "--workload", f"users-{count}", *length, *more, run=f"{name}-users-{count}")


def offline(place: Place, name: str, model: str, *more: str, run: str) -> list[str]:
    """256 requests at once, 512 tokens each; small: 8 of 24."""
    size = ("--workload-arg", "output.tokens=512") if not place.small else (
        "--workload-arg", "output.tokens=24", "--workload-arg", "load.requests=8",
    )  # fmt: skip
    return engine(place, name, model, *OFFLINE, *size, *more, run=run)


def measured(place: Place, *arguments: str) -> list[str]:
    """A benchmark of this repository, on the session's vLLM."""
    model, pairs = (TINY, "2") if place.small else ("llama3-8b", "8")
    return ["-m", "benchmarks.overhead", *arguments, "--model", model, "--pairs", pairs, "--warmup", "1"]


def agreement(place: Place) -> list[list[str]]:
    few = ("--workload", "quick", "--workload-arg", "load.requests=8", "--keep-token-ids")
    runs = [engine(place, name, "llama3-8b", *few, run=f"agree-{name}", limits=FEW) for name in ("vllm", "torch")]
    return [*runs, ["-m", "benchmarks.gpu.agree", *(run[run.index("--out") + 1] for run in runs)]]


def facts(place: Place) -> list[list[str]]:
    return [
        ["-m", "harness.doctor"],
        ["-m", "harness.ceilings", "--device", "cpu" if place.small else "cuda", "--engine-python", place.torch],
        *([] if place.small else [["-m", "benchmarks.gpu.power", "--python", place.torch]]),
    ]


def inside(place: Place) -> list[list[str]]:
    """Nsight Compute on two decode steps, and its report as text."""
    size = ("--workload-arg", f"load.requests={8 if place.small else 32}", "--workload-arg", "output.tokens=48")
    profile = HOST if place.small else NCU
    run = engine(place, "vllm", "llama3-8b", *OFFLINE, *size, *profile, run="vllm-ncu", limits=FEW)
    report = Path(run[run.index("--out") + 1]) / "profile-ncu" / "report.ncu-rep"
    return [run, *([] if place.small else [["-c", READ_NCU, str(report)]])]


STEPS = (
    Step("facts", 60, (), facts),
    Step("vllm-100", 150, ("vllm",), lambda p: [users(p, "vllm", "llama3-8b", 100)]),
    Step(
        "kernels", 150, ("vllm",),
        lambda p: [offline(p, "vllm", "llama3-8b", "--profile", "kernels", "--trace", run="vllm-offline")],
    ),
    Step("lmdeploy-100", 120, ("lmdeploy",), lambda p: [users(p, "lmdeploy", "llama3-8b", 100)]),
    Step(
        "awq", 200, ("vllm", "lmdeploy"),
        lambda p: [users(p, name, "llama3-8b-awq", 100) for name in ("lmdeploy", "vllm")],
    ),
    Step(
        "layers", 260, ("vllm",),
        lambda p: [offline(p, "vllm", "llama3-8b", "--layers", "all", *SOON, run="vllm-layers")],
    ),
    Step("vllm-10-50", 220, ("vllm",), lambda p: [users(p, "vllm", "llama3-8b", count) for count in (50, 10)]),
    Step(
        "observer", 200, ("vllm",),
        lambda p: [measured(p, what, "--engine", "vllm", "--environment", "session-vllm")
                   for what in ("observer", "generate", "default")],
    ),
    Step("torch", 150, ("vllm", "torch"), agreement, together=True),
    Step("tests", 150, (), lambda p: [["-m", "pytest", "-q", "-rs", "-m", "gpu", "tests/gpu"]]),
    Step("ncu", 120, ("vllm",), inside),
    Step(
        "70b-awq", 420, ("vllm", "lmdeploy"),
        lambda p: [
            *([] if p.small else [["-c", MAKE_ROOM]]),
            *(users(p, name, "llama3-70b-awq", 10) for name in ("lmdeploy", "vllm")),
        ],
    ),
)  # fmt: skip
