"""Which engines run on which machine, what a refusal says, and what the locks hold."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from innerloop.engines.adapters import load_adapter
from innerloop.harness.cli.errors import Refused
from innerloop.harness.machine import Machine
from innerloop.harness.machine.gpus import Gpu
from innerloop.harness.profiles import engines
from innerloop.harness.profiles.engines import LOCKS, load_engine
from tests.harness.machines import CPU, GPU, H200
from tests.real import ROOT

NAMES = {"http", "vllm", "torch", "lmdeploy", "tensorrt_llm", "mlc_llm", "openvino", "sglang", "tgi"}
WITHOUT_TORCH = {"openvino"}
CUDA = ("nvidia", "cuda", "triton", "cupy", "pynvml")
TORCHS = {"torchvision", "torchaudio", "torchcodec"}  # PyPI's builds of these are linked against CUDA
IMPORTED = {"sglang-cpu.txt": {"triton", "torchvision", "nvidia-ml-py"}}  # and none of their libraries loaded


def test_every_profile_is_valid_and_known() -> None:
    assert set(engines.engine_names()) == NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_an_engine_says_what_it_needs(name: str) -> None:
    engine = load_engine(name)
    assert engine.needs.strip()
    assert set(engine.environments) <= {"cpu", "cuda"}
    assert set(engine.quantization) <= set(engine.environments)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_profile_promises_an_adapter_only_where_there_is_one(name: str) -> None:
    engine = load_engine(name)
    if engine.adapter:
        adapter = load_adapter(name)
        assert list(adapter.layers) == engine.layers
        assert adapter.name == name
    else:
        with pytest.raises(ModuleNotFoundError):
            load_adapter(name)


def test_a_wrong_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(Refused, match="'vlm'; did you mean 'vllm'"):
        load_engine("vlm")
    with pytest.raises(Refused, match="choose from: http, lmdeploy, mlc_llm"):
        load_engine("passwd")
    with pytest.raises(Refused, match="/etc/passwd is not a Python file"):
        load_engine("/etc/passwd")
    with pytest.raises(Refused, match="there is no file /no/such"):
        load_engine("/no/such")


def test_a_profile_with_a_wrong_field_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (engines.FOLDER / "torch.yaml").read_text()
    (tmp_path / "odd.yaml").write_text(text.replace("rank: 90", "rank: high"))
    (tmp_path / "other.yaml").write_text(text)
    monkeypatch.setattr(engines, "FOLDER", tmp_path)
    with pytest.raises(Refused, match=r"profiles/engines/odd\.yaml: rank"):
        load_engine("odd")
    with pytest.raises(Refused, match="name is 'torch'; it must match the file name"):
        load_engine("other")


def test_without_a_gpu_vllm_comes_before_torch_and_what_is_not_all_itself_is_last() -> None:
    assert [engine.name for engine in engines.runnable(CPU)] == ["vllm", "torch", "openvino", "sglang"]
    assert engines.substituted(load_engine("sglang"), "cpu") == "it runs on PyTorch's operators"
    assert engines.substituted(load_engine("sglang"), "cuda") is None
    on_a_gpu = [engine.name for engine in engines.runnable(GPU)]
    assert on_a_gpu.index("sglang") < on_a_gpu.index("torch")
    assert engines.devices(load_engine("vllm"), CPU) == ["cpu"]


def test_with_a_gpu_it_is_preferred() -> None:
    assert engines.devices(load_engine("vllm"), GPU) == ["cuda", "cpu"]
    assert engines.runnable(GPU)[0].name == "vllm"


def test_a_refusal_says_what_is_needed_what_is_here_and_what_runs() -> None:
    refusal = engines.refuse(load_engine("lmdeploy"), CPU)
    assert isinstance(refusal, Refused)
    text = "\n".join((str(refusal), *refusal.details))
    assert "lmdeploy cannot run here" in text
    assert "an NVIDIA GPU of compute capability" in text
    assert "this machine has linux x86_64, Test CPU, 2 cores, 24.0 GiB memory, no NVIDIA GPU" in text
    assert "what runs here: vllm (cpu), torch (cpu), openvino (cpu)" in text


def test_an_engine_without_an_adapter_is_refused_on_a_gpu_too() -> None:
    lmdeploy = load_engine("lmdeploy")
    without = lmdeploy.model_copy(update={"adapter": False})
    assert "no adapter" in str(engines.why_not(without, GPU))
    assert engines.why_not(lmdeploy, GPU) is None
    assert "no usable NVIDIA GPU" in str(engines.why_not(lmdeploy, CPU))
    assert engines.why_not(lmdeploy, GPU, "cpu") == "it runs only on cuda"


@pytest.mark.parametrize(
    ("gpu", "reason"),
    [
        (
            replace(H200, compute_capability="7.0"),
            "compute capability 7.5 or higher; this machine's GPUs have at most 7.0",
        ),
        (replace(H200, cuda="12.4", driver="550.1"), r"CUDA 13\.0; this machine's driver \(550\.1\) supports 12\.4"),
        (replace(H200, compute_capability="10.0"), None),
    ],
)
def test_an_old_gpu_or_driver_is_named(gpu: Gpu, reason: str | None) -> None:
    found = engines.why_not(load_engine("vllm"), replace(CPU, gpus=(gpu,)), "cuda")
    assert (found is None) if reason is None else re.search(reason, str(found))


@pytest.mark.parametrize(
    ("machine", "reason"),
    [
        (replace(CPU, arch="aarch64"), "needs linux-x86_64; this machine is linux-aarch64"),
        (replace(CPU, os="darwin", libc=None), "needs linux-x86_64; this machine is darwin-x86_64"),
        (replace(CPU, libc="glibc 2.28"), "needs glibc 2.31 or newer; this machine has glibc 2.28"),
        (replace(CPU, libc=None), "needs glibc 2.31 or newer; this machine has a different C library"),
    ],
)
def test_a_machine_that_the_lock_is_not_for_is_named(machine: Machine, reason: str) -> None:
    vllm = load_engine("vllm")
    assert reason in str(engines.why_not(vllm, machine, "cpu"))
    assert engines.why_not(vllm, machine, "cpu", own_python=True) is None


def test_another_python_is_an_obstacle_only_where_none_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    old = replace(CPU, python="3.10.4")
    vllm = load_engine("vllm")
    assert engines.why_not(vllm, old) is None
    monkeypatch.setattr(engines, "find_uv", lambda: None)
    assert engines.why_not(vllm, CPU) is None
    assert "needs Python >=3.11,<3.15; this is 3.10.4" in str(engines.why_not(vllm, old, "cpu"))


def test_different_reasons_are_told_by_device() -> None:
    found = str(engines.why_not(load_engine("tgi"), CPU))
    assert "on cuda: this machine has no usable NVIDIA GPU" in found
    assert "on cpu: innerloop cannot install it; register an environment that has it, or give --engine-python" in found


def test_an_engine_that_innerloop_cannot_install_runs_from_an_interpreter_of_the_users() -> None:
    assert engines.why_not(load_engine("tgi"), CPU, "cpu", own_python=True) is None
    assert engines.why_not(load_engine("tensorrt_llm"), GPU, "cuda", own_python=True) is None
    assert "--engine-python" in str(engines.why_not(load_engine("tensorrt_llm"), GPU))


@pytest.mark.parametrize(
    ("version", "inside"),
    [("3.11.0", True), ("3.14.10", True), ("3.15.0a1", False), ("3.10.13", False), ("3.9.18", False)],
)
def test_a_python_version_lies_in_a_range_or_not(version: str, inside: bool) -> None:
    assert engines.in_range(version, ">=3.11,<3.15") is inside


def entries(lock: str) -> dict[str, list[str]]:
    """A lock's requirements, `name==version ; marker`, each with its hashes."""
    found: dict[str, list[str]] = {}
    last = ""
    for line in (LOCKS / lock).read_text().splitlines():
        if line.startswith("    --hash="):
            found[last].append(line.strip(" \\"))
        elif line and not line.startswith("#"):
            last = line.strip(" \\")
            found[last] = []
    return found


def names(lock: str) -> set[str]:
    return {entry.partition("==")[0] for entry in entries(lock)}


def locks() -> list[tuple[str, str, str]]:
    """(engine, device, lock) of every environment that innerloop can make."""
    able = [engine for engine in engines.all_engines() if engine.adapter]
    return [(e.name, kind, recipe.lock) for e in able for kind, recipe in e.environments.items() if recipe.lock]


@pytest.mark.parametrize(("name", "device", "lock"), locks())
def test_a_lock_holds_the_engine_and_what_was_asked_for(name: str, device: str, lock: str) -> None:
    asked = [line.split("#")[0].strip() for line in (LOCKS / lock).with_suffix(".in").read_text().splitlines()]
    found = {entry.partition(" ;")[0] for entry in entries(lock)}
    for requirement in filter(None, asked):
        pinned = requirement.replace("torch==2.13.0", "torch==2.13.0+cpu") if device == "cpu" else requirement
        assert pinned in found if "==" in pinned else pinned in names(lock)
    assert load_engine(name).environments[device].distribution in names(lock)
    assert "numpy" in names(lock)
    assert ("torch" in names(lock)) is (name not in WITHOUT_TORCH)


@pytest.mark.parametrize("lock", [lock for _, device, lock in locks() if device == "cpu"])
def test_a_cpu_lock_holds_nothing_of_cuda(lock: str) -> None:
    assert {name for name in names(lock) if name.startswith(CUDA) or name in TORCHS} == IMPORTED.get(lock, set())
    torch = [entry for entry in entries(lock) if entry.startswith("torch==")]
    assert torch == ([] if lock == "openvino-cpu.txt" else ["torch==2.13.0+cpu"])


@pytest.mark.parametrize("lock", [lock for _, _, lock in locks()])
def test_a_lock_pins_everything_with_hashes_and_names_no_place(lock: str) -> None:
    for entry, hashes in entries(lock).items():
        assert re.match(r"[a-z0-9.-]+(\[[a-z,-]+\])?==[^ ]+( ; .+)?$", entry), entry
        assert hashes or entry == "torch==2.13.0+cpu", entry
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", one) for one in hashes)


@pytest.mark.parametrize("path", sorted(LOCKS.iterdir()), ids=lambda path: path.name)
def test_files_of_locks_name_no_host_and_no_path_of_a_machine(path: Path) -> None:
    assert (
        re.findall(r"https?://\S+|file:\S+|--(?:index|find|extra)\S+ \S*[/.]\S*|(?:^|\s)/\w+", path.read_text()) == []
    )


@pytest.mark.slow
def test_the_harness_imports_no_engine() -> None:
    script = (
        "import importlib, pkgutil, sys\nfrom innerloop import harness\n"
        "for found in pkgutil.walk_packages(harness.__path__, 'innerloop.harness.'):\n"
        "    importlib.import_module(found.name)\n"
        "print(*sorted({'torch', 'vllm', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_folder_in_the_current_one_is_not_run_for_an_engine_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("vllm", "mine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('run')")
    monkeypatch.chdir(tmp_path)
    load_engine.cache_clear()
    assert load_engine("vllm").plugin is None
    with pytest.raises(Refused, match=r"no engine 'mine'; for the plug-in in the folder mine, use \./mine"):
        load_engine("mine")
