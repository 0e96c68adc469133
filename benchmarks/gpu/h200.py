"""A whole session on a GPU machine that reaches no network: unpacks, registers, runs every step, saves each at its end.

    python3 -m benchmarks.gpu.h200 --out OUT --bundle vllm=PARTS --bundle lmdeploy=PARTS --bundle harness=PARTS
    python3 -m benchmarks.gpu.h200 --out OUT --steps layers,ncu      only these; what an earlier call unpacked is used
    python3 -m benchmarks.gpu.h200 --out OUT --rehearse              the same steps, small, on this machine's CPU

It is started in a checkout by the Python that has torch, and needs nothing but the standard library; PARTS is a folder
with manifest.json and part-* (docs/how-to/without-a-network.md). The most important step comes first, and one for which
too little of --seconds is left is not begun, nor may one take much longer than it should. After each,
OUT/results.tar.xz and OUT/table.txt are written anew, so that a session that is cut off loses only the step it was in.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import lzma
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu.steps import STEPS, Place, Step
from innerloop.harness.process.bound import with_parent

CHECKOUT = Path(__file__).resolve().parents[2]
SAFELY: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # not before Python 3.11.4
ENGINES = {False: ("vllm", "lmdeploy", "torch"), True: ("vllm", "torch")}  # by whether it is a rehearsal
# Of a step's folders; what has a row a token, and traces, stay behind.
KEPT = ("*.json", "*.txt", "engine.log", "*.html", "*.svg", "steps.parquet", "*.ncu-rep")
DONE = "steps.json"
LARGEST = 4 << 20  # bytes of a file that is kept
GRACE_S = 20.0  # for a command that was told to end
LONGEST = 2.5  # times what a step should take: one that hangs must not cost those behind it their time


@dataclass(slots=True)
class Done:
    """How a step went. code: the worst exit of its commands; None: not begun, and `note` says why."""

    name: str
    code: int | None
    seconds: float
    note: str


def main() -> None:
    given = arguments()
    end = time.monotonic() + given.seconds
    work = given.work.resolve()
    variables, torch = prepare(given, work)
    place = Place(sys.executable, torch, work / "runs", given.rehearse)
    place.folder.mkdir(parents=True, exist_ok=True)
    done = {} if given.steps is None else earlier(work)
    for step in STEPS:
        if given.steps is None or step.name in given.steps:
            done[step.name] = carry_out(step, place, variables, given.engines, end)
            save(given.out, work, [done[one.name] for one in STEPS if one.name in done])
            print(f"== {row(done[step.name])}", flush=True)
    print((given.out / "table.txt").read_text())
    sys.exit(0 if all(one.code == 0 for one in done.values()) else 1)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="where the results go")
    parser.add_argument("--work", type=Path, default=Path("/tmp/innerloop-gpu"), help="where all else goes")
    parser.add_argument(
        "--bundle", action="append", default=[], metavar="NAME=PARTS", help="vllm, lmdeploy, torch or harness"
    )
    parser.add_argument("--steps", metavar="A,B", help=f"of {', '.join(step.name for step in STEPS)}; default: all")
    parser.add_argument("--seconds", type=float, default=1200.0, help="for all of it; default: 1200")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, with llama-tiny and short workloads")
    given = parser.parse_args()
    given.steps = given.steps.split(",") if given.steps else None
    if unknown := set(given.steps or ()) - {step.name for step in STEPS}:
        parser.error(f"there is no step {', '.join(sorted(unknown))}")
    given.bundles = dict(text.split("=", 1) for text in given.bundle)
    given.engines = ENGINES[given.rehearse]
    given.out.mkdir(parents=True, exist_ok=True)
    return given


# ---------------------------------------------------------------- before the first step


def prepare(given: argparse.Namespace, work: Path) -> tuple[dict[str, str], str]:
    """Unpacks what was brought and registers the engines; returns every command's variables and a Python with torch."""
    for name, parts in given.bundles.items():
        try:
            unpack(Path(parts), work / f"site-{name}")
        except (OSError, ValueError, KeyError, lzma.LZMAError, tarfile.TarError) as error:
            print(f"the bundle of {name} cannot be unpacked: {error!r}", flush=True)
    paths = [str(CHECKOUT), *([str(work / "site-harness")] if unpacked(work / "site-harness") else [])]
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
    variables["PATH"] = os.pathsep.join([str(work / "site-harness" / "bin"), variables["PATH"]])
    if not given.rehearse:
        variables["INNERLOOP_HOME"] = str(work / "home")
    given.engines = tuple(name for name in given.engines if registered(name, given.rehearse, work, variables))
    return variables, made("torch", variables) if given.rehearse else sys.executable


def registered(name: str, small: bool, work: Path, variables: dict[str, str]) -> bool:
    """Registers an engine as session-NAME; one that cannot be is left out, and the others' steps are run."""
    site = work / f"site-{name}"
    if name != "torch" and not small and not unpacked(site):
        print(f"no bundle of {name}: its steps are left out", flush=True)
        return False
    python, device = (made(name, variables), "cpu") if small else (sys.executable, "cuda")
    command = ["register", f"session-{name}", "--engine", name, "--device", device, "--python", python]
    if unpacked(site):
        manifest = json.loads((site / "manifest.json").read_text())
        command += ["--site", str(site)]
        command += [
            f"--env={key}={value.replace('{site}', str(site))}" for key, value in manifest["environment"].items()
        ]
    run = [sys.executable, "-m", "harness.environments", *command]
    try:
        subprocess.run(run, env=variables, cwd=CHECKOUT, check=True, timeout=300)
    except subprocess.SubprocessError as error:
        print(f"{name} cannot be registered, its steps are left out: {error}", flush=True)
        return False
    return True


def unpacked(site: Path) -> bool:
    """Whether all of a bundle lies there: its manifest is written last."""
    return (site / "manifest.json").exists()


def made(name: str, variables: dict[str, str]) -> str:
    """The interpreter of innerloop's own environment, for a rehearsal; made now if there is none."""
    base = [sys.executable, "-m", "harness.environments"]
    for verb in (["list", "--json"], ["create", name, "--device", "cpu"], ["list", "--json"]):
        told = subprocess.run(
            [*base, *verb], env=variables, cwd=CHECKOUT, check=True, timeout=900, stdout=subprocess.PIPE, text=True
        ).stdout
        if verb[0] == "list":
            known = json.loads(told)["environments"]
            ready = [one["folder"] for one in known if (one["engine"], one["state"]) == (name, "ready")]
            if ready:
                return f"{ready[0]}/bin/python"
    sys.exit(f"no environment of {name} could be made")


def unpack(parts: Path, site: Path) -> None:
    """Checks every part's sum, and unpacks them into `site` unless that was done before.

    Raises:
        OSError, ValueError, KeyError, LZMAError, TarError: a part is missing or damaged, or there is no room.
    """
    if unpacked(site):
        return
    manifest = json.loads((parts / "manifest.json").read_text())
    content = b""
    for part in manifest["parts"]:
        piece = (parts / part["file"]).read_bytes()
        if hashlib.sha256(piece).hexdigest() != part["sha256"]:
            raise ValueError(f"{parts / part['file']} is damaged")
        content += piece
    begun = time.monotonic()
    with lzma.open(io.BytesIO(content)) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
        # The content has the hashes of the manifest. Pythons before 3.10.12 and 3.11.4 have no filter.
        if hasattr(tarfile, "data_filter"):
            tar.extractall(site, filter="data")
        else:
            tar.extractall(site)
    for program in site.glob("bin/*"):
        program.chmod(0o755)
    (site / "manifest.json").write_text(json.dumps(manifest))
    print(f"{manifest['name']} unpacked in {time.monotonic() - begun:.1f} s", flush=True)


# ---------------------------------------------------------------- one step


def carry_out(step: Step, place: Place, variables: dict[str, str], engines: Sequence[str], end: float) -> Done:
    """Runs a step's commands, each to its end whatever the one before came to, but for those of a missing engine."""
    missing = [name for name in step.needs if name not in engines and not place.small]
    if missing and (step.together or len(missing) == len(step.needs)):
        return Done(step.name, None, 0.0, f"there is no {', '.join(missing)}")
    left = end - time.monotonic()
    if left < (step.seconds if not place.small else 10.0):
        return Done(step.name, None, 0.0, f"{step.seconds:.0f} s were not left: --steps {step.name}")
    begun, worst, notes = time.monotonic(), 0, []
    end = min(end - GRACE_S, begun + LONGEST * step.seconds)
    folder = place.folder / step.name
    folder.mkdir(parents=True, exist_ok=True)
    for number, command in enumerate(step.commands(place)):
        if any(f"session-{name}" in command for name in missing):
            worst = max(worst, 2)
            notes.append(f"command {number} needs {', '.join(missing)}")
            continue
        if "--out" in command:  # of an earlier call
            shutil.rmtree(command[command.index("--out") + 1], ignore_errors=True)
        seconds = end - time.monotonic()
        if number and seconds < 1.0:
            worst = max(worst, 124)
            notes.append(f"command {number} was not begun: the time was over")
            continue
        code = call([place.python, *command], folder / f"output-{number}.txt", variables, max(seconds, 1.0))
        worst = max(worst, code)
        if code:
            notes.append(f"command {number} exited {code}")
    return Done(step.name, worst, time.monotonic() - begun, "; ".join(notes))


def call(command: Sequence[str], output: Path, variables: dict[str, str], seconds: float) -> int:
    """Runs a command, what it prints going to `output` with the command itself; 124 where it had to be ended.

    Nothing of it is left, also where this process is killed: what it started would hold the GPU.
    """
    with open(output, "w") as file:
        file.write(" ".join(command) + "\n\n")
        file.flush()
        process = subprocess.Popen(
            with_parent(command), cwd=CHECKOUT, env=variables, stdout=file, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        try:
            return abs(process.wait(seconds))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGINT)  # a run ends orderly at it
        finally:
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_S)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # what is left of it, also below a command that ended itself
            process.wait()
        return 124


# ---------------------------------------------------------------- what is kept


def save(out: Path, work: Path, done: Sequence[Done]) -> None:
    """Writes the results of all steps so far, and the table, each in one rename."""
    text = "\n".join([*map(row, done), "", *headlines(work / "runs")]) + "\n"
    put(out / "table.txt", text.encode())
    put(work / DONE, json.dumps([asdict(one) for one in done], indent=1).encode())
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:xz", preset=1) as tar:
        for path in sorted({path for pattern in KEPT for path in (work / "runs").rglob(pattern)}):
            if path.is_file() and path.stat().st_size <= LARGEST:
                tar.add(path, path.relative_to(work / "runs"))
    put(out / "results.tar.xz", packed.getvalue())


def put(path: Path, content: bytes) -> None:
    half = path.with_name(path.name + ".part")
    half.write_bytes(content)
    os.replace(half, path)


def earlier(work: Path) -> dict[str, Done]:
    """The steps of earlier calls, which `--steps` goes on from."""
    path = work / DONE
    return {one["name"]: Done(**one) for one in json.loads(path.read_text())} if path.exists() else {}


def row(one: Done) -> str:
    words = {None: "not begun", 0: "ok"}
    return f"{one.name:<14}{words.get(one.code, f'exit {one.code}'):<11}{one.seconds:6.0f} s  {one.note}".rstrip()


def headlines(runs: Path) -> list[str]:
    """One line a run: what it was, how it ended, and its main figures."""
    lines = []
    for path in sorted(runs.rglob("result.json"), key=lambda one: one.stat().st_mtime):
        name = str(path.parent.relative_to(runs))
        try:
            result = json.loads(path.read_text())
            codes = ",".join(reason["code"] for reason in result["reasons"])
            lines.append(f"{name:<38} {result['status']:<8} {'  '.join(figures(result))}  {codes}")
        except (OSError, ValueError, KeyError, TypeError) as error:
            lines.append(f"{name:<38} cannot be read: {error!r}")
    return lines


def figures(result: dict[str, Any]) -> list[str]:
    """Rate, latencies and shares in words; what is not known is left out."""
    rate = find(result, "steady", "throughput", "output_tokens_per_s")
    whole = find(result, "throughput", "output_tokens_per_s")
    known = [f"{rate:,.0f} tok/s steady" if rate else f"{whole:,.0f} tok/s" if whole else "no rate"]
    for name in ("ttft", "tpot"):
        seconds = find(result, "latency_s", name, "p50")
        known += [f"{name.upper()} {seconds * 1e3:,.1f} ms"] if seconds else []
    for name, path in (("MBU", ("roofline", "mbu", "all")), ("device idle", ("kernels", "idle_share", "all"))):
        share = find(result, *path)
        known += [f"{name} {share:.0%}"] if share is not None else []
    return known


def find(document: Any, *names: str) -> Any:
    """A value deep in a document; None where a name is missing on the way."""
    for name in names:
        document = document.get(name) if isinstance(document, dict) else None
    return document


if __name__ == "__main__":
    main()
