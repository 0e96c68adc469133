"""What loading through TGI's adapter does and says, on a double of its model server."""

from __future__ import annotations

import pytest

from engines import tgi
from engines.tgi import Adapter
from tests.waiting import Clock

from . import tgi_double
from .driving import driven, work
from .loads import make_load
from .tgi_double import Layer, Model, PagedModel, Tensor, install

KINDS = [pytest.param(Model, "cpu", id="plain"), pytest.param(PagedModel, "cuda", id="paged")]


@pytest.mark.parametrize(("kind", "device"), KINDS)
def test_a_loaded_model_runs_requests_that_end_one_before_another(monkeypatch, tmp_path, kind, device):
    globals_ = install(monkeypatch, kind())
    adapter = Adapter()
    info = adapter.load(make_load(device=device, max_tokens_per_step=64, context_length=64, kv_cache_tokens=256))
    assert info.effective["max_batch_size"] == 64
    assert globals_.ADAPTER_TO_INDEX == {}
    out = driven(adapter, work([(5, 2), (6, 4), (7, 9)]), tmp_path / "t")
    assert out.figures["checks"] == []
    assert out.steps["prefill_tokens"].sum() == 18


def test_prompts_in_chunks_are_refused(monkeypatch):
    model = PagedModel()
    model.support_chunking = True
    install(monkeypatch, model)
    with pytest.raises(RuntimeError, match="PREFILL_CHUNKING=0"):
        Adapter().load(make_load(max_tokens_per_step=64, context_length=64))
    assert model.warmed is None


@pytest.mark.parametrize(("kind", "device"), KINDS)
def test_the_phase_that_sampling_is_part_of_is_the_one_that_the_note_names(monkeypatch, tmp_path, kind, device):
    clock = Clock()
    for module in (tgi, tgi_double):
        monkeypatch.setattr(module, "time", clock)
    install(monkeypatch, kind(sampling_s=0.005))
    adapter = Adapter()
    info = adapter.load(make_load(device=device, max_tokens_per_step=64, context_length=64))
    out = driven(adapter, work([(5, 4)]), tmp_path / "t")
    sampling, other = ("execute", "update") if device == "cuda" else ("update", "execute")
    assert any(f"sampling is part of the {sampling} phase" in note for note in info.notes)
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
    assert Adapter().load(make_load(max_tokens_per_step=64, context_length=64)).weights_bytes == 2 * 123


def test_the_size_of_quantized_weights_is_not_told(monkeypatch):
    model = PagedModel()
    model.quantize = "awq"
    install(monkeypatch, model)
    info = Adapter().load(make_load(quantization="awq", max_tokens_per_step=64, context_length=64))
    assert info.weights_bytes is None
