"""Measures what a device can do at most: memory bandwidth and matrix rate. Runs in an engine's own interpreter.

Both are the best of repeated measurements: a ceiling is what nothing exceeds. Repeats go on until the best one has
stopped improving, or for a fixed time.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from innerloop.engines.worker.answering import answer
from innerloop.engines.worker.main import Control, message_of

LEAST_REPEATS = 5
PATIENCE = 8  # repeats without a better one after which it has stopped improving
BETTER = 0.005  # by less than this a repeat is no improvement
MEMORY_S = 1.5  # at most, for each of the two ways to move memory
MATRIX_S = 1.0  # at most, for each size of matrix
LONGEST_CALL_S = 0.2  # a matrix whose product would take longer is not tried
LEAST_TIMED_S = 0.004  # on a GPU calls are timed together until they take this long: launching them costs little then
CACHES = 16  # arrays are at least this many times as large as the last cache
SIZES = {"cpu": (256, 512, 1024, 2048, 4096), "cuda": (2048, 4096, 8192, 16384)}  # rows of the square matrices
LEAST_ARRAY_BYTES = {"cpu": 1 << 28, "cuda": 1 << 31}
FP8 = "float8_e4m3fn"

Timer = Callable[[Callable[[], Any]], float]  # runs something and says how many seconds it took
Way = Callable[[Any, str, str, int], Callable[[], Any]]  # (torch, device, dtype, size) -> a call that multiplies


def main(job_path: str, channel: str) -> None:
    """Measures what the job asks for and sends it as one `result` event. Never returns; exit code 1 after `error`."""
    answer(job_path, channel, measured)


def measured(job: dict[str, Any], control: Control) -> dict[str, Any]:
    import torch

    control.send("measuring")
    begun = time.process_time()
    found = measure(torch, job["device"], job["dtypes"], job["memory"])
    return {"cpu_s": time.process_time() - begun, **found}


def measure(torch: Any, device: str, dtypes: list[str], memory: bool) -> dict[str, Any]:
    """{"memory", "matrix", "torch", "threads", "tf32"}: the figures of `memory_rate` (None unless asked) and, by name
    of the number format, of `matrix_rate`."""
    timed = cuda_timer(torch) if device == "cuda" else host_timer
    return {
        "memory": memory_rate(torch, device, timed) if memory else None,
        "matrix": {dtype: matrix_rate(torch, device, dtype, timed) for dtype in dtypes},
        "torch": str(torch.__version__),
        "threads": torch.get_num_threads() if device == "cpu" else None,
        "tf32": bool(torch.backends.cuda.matmul.allow_tf32) if device == "cuda" else None,
    }


def memory_rate(torch: Any, device: str, timed: Timer) -> dict[str, Any]:
    """Bytes a second of a large copy (read and written bytes both count) and of a large sum (read only).

    `array_bytes` is the size of the array that is copied or summed, `cache_bytes` that of the last cache.
    """
    cache, room = cache_and_room(torch, device)
    size = max(LEAST_ARRAY_BYTES[device], CACHES * cache)
    size = min(size, room // 8) // 4096 * 4096
    source = torch.ones(size // 8, dtype=torch.int64, device=device)  # integers: nothing but the reading takes time
    target = source.clone()  # its pages are there before the first copy, whose time they would add to
    copy = best(lambda: target.copy_(source), timed, MEMORY_S)
    read = best(source.sum, timed, MEMORY_S)
    return {
        "copy_bytes_per_s": 2 * size / copy["best_s"],
        "read_bytes_per_s": size / read["best_s"],
        "copy_median_bytes_per_s": 2 * size / copy["median_s"],
        "read_median_bytes_per_s": size / read["median_s"],
        "repeats": copy["repeats"] + read["repeats"],
        "array_bytes": size,
        "cache_bytes": cache,
    }


def matrix_rate(torch: Any, device: str, dtype: str, timed: Timer) -> dict[str, Any]:
    """Operations a second (2 n^3 a product) of the size of square matrices, and on a CPU the library, that do best.

    All None, with the `reason`, where the device or this torch does not have the format.
    """
    ways: dict[str, Way] = {"mm": product}
    if device == "cpu" and torch.backends.mkldnn.is_available():
        ways["oneDNN"] = onednn_product  # on AMD twice as fast in float32 as MKL, which is behind `mm`
    tried = {how: square(torch, device, dtype, timed, way) for how, way in ways.items()}
    how = max(tried, key=lambda name: tried[name]["ops_per_s"] or 0.0)
    return {**tried[how], "how": how if tried[how]["ops_per_s"] else None}


def square(torch: Any, device: str, dtype: str, timed: Timer, way: Way) -> dict[str, Any]:
    """`matrix_rate` of one way to multiply."""
    found: dict[str, Any] = {"ops_per_s": None, "median_ops_per_s": None, "size": None, "reason": None}
    seconds: float | None = None
    for size in SIZES[device]:
        if seconds is not None and 8 * seconds > LONGEST_CALL_S:
            break  # twice the size is 8 times the work
        try:
            call = way(torch, device, dtype, size)
            call()
            took = best(call, timed, MATRIX_S)
        except (RuntimeError, AttributeError, TypeError, NotImplementedError) as error:
            if found["ops_per_s"] is None:
                found["reason"] = message_of(error).splitlines()[0]
            break  # out of memory at a larger size: what the smaller ones did stands
        seconds = took["best_s"]
        rate = 2 * size**3 / seconds
        if found["ops_per_s"] is None or rate > found["ops_per_s"]:
            found |= {"ops_per_s": rate, "median_ops_per_s": 2 * size**3 / took["median_s"], "size": size}
    return found


def product(torch: Any, device: str, dtype: str, size: int) -> Callable[[], Any]:
    """A call that multiplies two square matrices: random ones, since zeros draw less power."""
    a, b = (torch.randn(size, size, device=device) for _ in range(2))
    if dtype == FP8:
        if device != "cuda":
            raise NotImplementedError("no FP8 matrix product on a CPU")
        one = torch.ones((), device=device)
        a, b = a.to(torch.float8_e4m3fn), b.to(torch.float8_e4m3fn).t()
        # With fast accumulation, as engines' FP8 kernels do it: without, a Hopper GPU is slower than they are.
        return lambda: torch._scaled_mm(a, b, scale_a=one, scale_b=one, out_dtype=torch.bfloat16, use_fast_accum=True)
    a, b = a.to(getattr(torch, dtype)), b.to(getattr(torch, dtype))
    out = torch.empty_like(a)
    return lambda: torch.mm(a, b, out=out)


def onednn_product(torch: Any, device: str, dtype: str, size: int) -> Callable[[], Any]:
    """As `product`, by oneDNN, whose operator torch has for its own compiler."""
    a, b = (torch.randn(size, size).to(getattr(torch, dtype)) for _ in range(2))
    return lambda: torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")


def best(call: Callable[[], Any], timed: Timer, limit_s: float) -> dict[str, Any]:
    """{"best_s", "median_s", "repeats"} of a call, which is repeated until its best time stops improving."""
    times: list[float] = []
    for seconds in repeats(lambda: timed(call), limit_s):
        times.append(seconds)
    return {"best_s": min(times), "median_s": statistics.median(times), "repeats": len(times)}


def repeats(once: Callable[[], float], limit_s: float) -> Iterator[float]:
    """Times of `once`, until it has not become better for `PATIENCE` repeats or `limit_s` seconds are over."""
    deadline = time.monotonic() + limit_s
    least, since, count = float("inf"), 0, 0
    while count < LEAST_REPEATS or (since < PATIENCE and time.monotonic() < deadline):
        seconds = once()
        yield seconds
        count += 1
        since = 0 if seconds < least * (1 - BETTER) else since + 1
        least = min(least, seconds)
        if count and time.monotonic() > deadline + limit_s:
            return  # one call takes longer than all of them should


def host_timer(call: Callable[[], Any]) -> float:
    begun = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - begun) / 1e9


def cuda_timer(torch: Any) -> Timer:
    """Times calls by the device's own events, several of them together where one is short."""

    def together(call: Callable[[], Any], count: int) -> float:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(count):
            call()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1e3 / count

    def timed(call: Callable[[], Any]) -> float:
        one = together(call, 1)
        return together(call, max(round(LEAST_TIMED_S / max(one, 1e-6)), 1))

    return timed


def cache_and_room(torch: Any, device: str) -> tuple[int, int]:
    """Bytes of the last cache (0: unknown) and of free memory."""
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        return int(getattr(properties, "L2_cache_size", 0)), int(torch.cuda.mem_get_info()[0])
    with open("/proc/meminfo") as f:
        available = next(int(line.split()[1]) * 1024 for line in f if line.startswith("MemAvailable:"))
    return last_cache_bytes(os.sched_getaffinity(0)), available


def last_cache_bytes(cpus: set[int], root: Path = Path("/sys/devices/system/cpu")) -> int:
    """Bytes of the highest cache level that these CPUs use, all its parts together; 0 where the kernel does not say."""
    levels: dict[int, dict[str, int]] = {}
    units = {"K": 1 << 10, "M": 1 << 20}
    for cpu in cpus:
        for index in (root / f"cpu{cpu}" / "cache").glob("index*"):
            try:
                level = int((index / "level").read_text())
                text, shared = (index / "size").read_text().strip(), (index / "shared_cpu_list").read_text().strip()
                levels.setdefault(level, {})[shared] = int(text.rstrip("KM")) * units.get(text[-1], 1)
            except (OSError, ValueError):
                continue
    return sum(levels[max(levels)].values()) if levels else 0
