"""How the ceilings are measured: repeats, sizes and ways, against clocks and products that are made up."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from innerloop.engines import ceilings


def test_repeats_end_when_the_best_has_stopped_improving():
    times = iter([5.0, 4.0, 3.0, 2.0, *[2.5] * 100])
    found = list(ceilings.repeats(lambda: next(times), limit_s=60))
    assert len(found) == 4 + ceilings.PATIENCE
    assert min(found) == 2.0


def test_a_tiny_gain_is_no_improvement():
    times = iter(1.0 - 0.0001 * n for n in range(1000))
    assert len(list(ceilings.repeats(lambda: next(times), limit_s=60))) == 1 + ceilings.PATIENCE


def test_repeats_end_when_their_time_is_over(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(ceilings.time, "monotonic", lambda: now[0])

    def once():
        now[0] += 0.5
        return 1.0 / now[0]  # better every time

    assert len(list(ceilings.repeats(once, limit_s=4))) == 8


def test_one_call_that_takes_far_too_long_is_not_repeated(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(ceilings.time, "monotonic", lambda: now[0])

    def once():
        now[0] += 100.0
        return 100.0

    assert len(list(ceilings.repeats(once, limit_s=1))) == 1


class Torch:
    """Multiplies in a time that is made up: `rate(dtype, size)` operations a second; None: it cannot."""

    def __init__(self, rate, onednn=None):
        self.rates = {"mm": rate, "oneDNN": onednn}
        self.backends = SimpleNamespace(mkldnn=SimpleNamespace(is_available=lambda: onednn is not None))
        self.tried = []

    def way(self, how):
        def product(torch, device, dtype, size):
            self.tried.append((how, size))
            rate = self.rates[how](dtype, size)
            if rate is None:
                raise RuntimeError(f"no {dtype} here\nand a long explanation")
            return lambda: 2 * size**3 / rate

        return product


@pytest.fixture
def measured(monkeypatch):
    def measure(torch, dtype, device="cpu"):
        monkeypatch.setattr(ceilings, "product", torch.way("mm"))
        monkeypatch.setattr(ceilings, "onednn_product", torch.way("oneDNN"))
        return ceilings.matrix_rate(torch, device, dtype, lambda call: call())

    return measure


def test_the_size_that_does_best_counts(measured):
    found = measured(Torch(lambda dtype, size: 1e12 if size == 1024 else 5e11), "float32")
    assert found["ops_per_s"] == pytest.approx(1e12)
    assert found["size"] == 1024
    assert found["how"] == "mm"
    assert found["reason"] is None


def test_the_library_that_does_best_counts(measured):
    found = measured(Torch(lambda dtype, size: 2e11, onednn=lambda dtype, size: 4.5e11), "float32")
    assert (found["how"], found["ops_per_s"]) == ("oneDNN", pytest.approx(4.5e11))


def test_a_gpu_is_not_asked_for_a_cpus_library(measured):
    torch = Torch(lambda dtype, size: 1e15, onednn=lambda dtype, size: 9e15)
    assert measured(torch, "bfloat16", device="cuda")["how"] == "mm"


def test_sizes_that_would_take_too_long_are_not_tried(measured):
    torch = Torch(lambda dtype, size: 1e9)  # float16 on a CPU without units for it: 256 takes 34 ms, 512 would 0.27 s
    assert measured(torch, "float16")["size"] == 256
    assert {size for _, size in torch.tried} == {256}


def test_a_format_that_the_device_lacks_has_a_reason(measured):
    found = measured(Torch(lambda dtype, size: None), "float8_e4m3fn")
    assert found["ops_per_s"] is None
    assert found["reason"] == "RuntimeError: no float8_e4m3fn here"
    assert found["how"] is None


def test_out_of_memory_at_a_larger_size_leaves_what_was_measured(measured):
    found = measured(Torch(lambda dtype, size: 1e14 if size <= 4096 else None), "float32", device="cuda")
    assert found["ops_per_s"] == pytest.approx(1e14)
    assert found["reason"] is None


def test_the_fp8_product_accumulates_fast_as_engines_do():
    asked = {}

    class Matrix:
        def to(self, dtype):
            return self

        t = lambda self: self  # noqa: E731

    torch = SimpleNamespace(
        randn=lambda *_, device: Matrix(),
        ones=lambda *_, device: "one",
        float8_e4m3fn="e4m3",
        bfloat16="bf16",
        _scaled_mm=lambda a, b, **options: asked.update(options),
    )
    ceilings.product(torch, "cuda", ceilings.FP8, 16)()
    assert asked == {"scale_a": "one", "scale_b": "one", "out_dtype": "bf16", "use_fast_accum": True}


def cache(root: Path, cpu: int, index: int, level: int, size: str, shared: str) -> None:
    folder = root / f"cpu{cpu}" / "cache" / f"index{index}"
    folder.mkdir(parents=True)
    for name, text in {"level": str(level), "size": size, "shared_cpu_list": shared}.items():
        (folder / name).write_text(text + "\n")


def test_the_last_cache_is_the_sum_of_its_parts(tmp_path):
    for cpu in range(4):
        cache(tmp_path, cpu, 2, 2, "1024K", str(cpu))
        cache(tmp_path, cpu, 3, 3, "32768K" if cpu < 2 else "16M", "0-1" if cpu < 2 else "2-3")
    assert ceilings.last_cache_bytes({0, 1, 2, 3}, tmp_path) == 48 << 20
    assert ceilings.last_cache_bytes({0}, tmp_path) == 32 << 20
    assert ceilings.last_cache_bytes({7}, tmp_path) == 0


class Events:
    """A GPU whose calls take `one_ms` each and whose events read its clock."""

    def __init__(self, one_ms: float) -> None:
        self.now_ms, self.calls = 0.0, 0
        self.one_ms = one_ms
        self.cuda = SimpleNamespace(Event=lambda enable_timing: self.Event(self))

    class Event:
        def __init__(self, gpu: Events) -> None:
            self.gpu, self.at_ms = gpu, 0.0

        def record(self) -> None:
            self.at_ms = self.gpu.now_ms

        def synchronize(self) -> None:
            pass

        def elapsed_time(self, other: Events.Event) -> float:
            return other.at_ms - self.at_ms

    def call(self) -> None:
        self.calls += 1
        self.now_ms += self.one_ms


@pytest.mark.parametrize(("one_ms", "calls"), [(0.1, 1 + 40), (50.0, 1 + 1)])
def test_short_calls_on_a_gpu_are_timed_together(one_ms, calls):
    gpu = Events(one_ms)
    assert ceilings.cuda_timer(gpu)(gpu.call) == pytest.approx(one_ms / 1e3)
    assert gpu.calls == calls
