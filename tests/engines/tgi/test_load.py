"""What loading through TGI's adapter does and says, on a double of its model server."""

from __future__ import annotations

import pytest

from innerloop.engines.contract import UnsupportedSetting
from innerloop.engines.support import phases
from innerloop.engines.tgi import adapter
from innerloop.engines.tgi import session as tgi_session
from innerloop.engines.worker.main import cause_of
from tests.engines.support.driving import driven, work
from tests.engines.support.loads import make_load
from tests.engines.tgi import double
from tests.engines.tgi.double import Layer, Model, PagedModel, Tensor, install
from tests.waiting import Clock

KINDS = [pytest.param(Model, "cpu", id="plain"), pytest.param(PagedModel, "cuda", id="paged")]


@pytest.mark.parametrize(("kind", "device"), KINDS)
def test_a_loaded_model_runs_requests_that_end_one_before_another(monkeypatch, tmp_path, kind, device):
    globals_ = install(monkeypatch, kind())
    load = make_load(device=device, max_tokens_per_step=64, context_length=64, kv_cache_tokens=256)
    session = adapter.open(load)
    assert session.info.effective["max_batch_size"] == 64
    assert session.info.stepping == "driven"
    assert session.info.unreported == adapter.unreported(load)
    assert globals_.ADAPTER_TO_INDEX == {}
    out = driven(session, work([(5, 2), (6, 4), (7, 9)]), tmp_path / "t")
    assert out.figures.checks == ()
    assert out.steps["prefill_tokens"].sum() == 18


def test_prompts_in_chunks_are_refused(monkeypatch):
    model = PagedModel()
    model.support_chunking = True
    install(monkeypatch, model)
    with pytest.raises(RuntimeError, match="PREFILL_CHUNKING=0"):
        adapter.open(make_load(max_tokens_per_step=64, context_length=64))
    assert model.warmed is None


@pytest.mark.parametrize(("kind", "device"), KINDS)
def test_the_phase_that_sampling_is_part_of_is_the_one_that_the_note_names(monkeypatch, tmp_path, kind, device):
    clock = Clock()
    for module in (phases, tgi_session, double):
        monkeypatch.setattr(module, "time", clock)
    install(monkeypatch, kind(sampling_s=0.005))
    session = adapter.open(make_load(device=device, max_tokens_per_step=64, context_length=64))
    out = driven(session, work([(5, 4)]), tmp_path / "t")
    sampling, other = ("execute", "update") if device == "cuda" else ("update", "execute")
    assert any(f"sampling is part of the {sampling} phase" in note for note in session.info.notes)
    slept = {"execute": 1_000_000, "update": 0}  # by the double, besides
    assert (out.steps[f"{sampling}_ns"] == 5_000_000 + slept[sampling]).all()
    assert (out.steps[f"{other}_ns"] == slept[other]).all()


def test_weights_are_parameters_and_plain_tensors_each_counted_once(monkeypatch):
    shared = Tensor(100)
    rotary = Layer({}, _cos_cached=Tensor(1000))  # layers/rotary.py
    experts = Layer({"gate": Tensor(3), "bias": None}, gate_up_proj=Tensor(20), topk=2)  # layers/moe/unquantized.py
    model = PagedModel()
    model.model = Layer({"embedding": shared}, (rotary, experts, Layer({"head": shared})))
    install(monkeypatch, model)
    assert adapter.open(make_load(max_tokens_per_step=64, context_length=64)).info.weights_bytes == 2 * 123


def test_the_size_of_quantized_weights_is_not_told(monkeypatch):
    model = PagedModel()
    model.quantize = "awq"
    install(monkeypatch, model)
    session = adapter.open(make_load(quantization="awq", max_tokens_per_step=64, context_length=64))
    assert session.info.weights_bytes is None


def test_a_cache_of_fp8_takes_a_byte_a_number(monkeypatch):
    install(monkeypatch, PagedModel())
    load = make_load(max_tokens_per_step=64, context_length=64)
    assert adapter.open(load).info.kv_cache_bytes == 636 * 2 * 32 * 8 * 128 * 4  # the double computes in float32
    given = make_load(max_tokens_per_step=64, context_length=64, kv_cache_dtype="fp8")
    info = adapter.open(given).info
    assert (info.kv_cache_tokens, info.kv_cache_bytes) == (636, 636 * 2 * 32 * 8 * 128)


def test_an_argument_that_get_model_does_not_have_is_refused(monkeypatch):
    install(monkeypatch, Model())
    with pytest.raises(UnsupportedSetting, match=r"no argument 'max_waiting'.*waiting_served_ratio"):
        adapter.open(make_load(device="cpu", engine_args={"max_waiting": 3}))


@pytest.mark.parametrize(
    ("device", "unreported"),
    [("cuda", ("wait_ns", "sample_ns")), ("cpu", ("wait_ns", "sample_ns", "kv_usage"))],
)
def test_what_is_not_reported_is_said_beforehand(device, unreported):
    assert adapter.unreported(make_load(device=device)) == unreported


def test_a_prefill_that_the_device_cannot_hold_is_told_by_its_words():
    words = "Not enough memory to handle 2048 prefill tokens. You need to decrease `--max-batch-prefill-tokens`"
    assert cause_of(RuntimeError(words), "cuda", adapter.out_of_memory) == "out_of_memory_device"
