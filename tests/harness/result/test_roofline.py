"""What a model costs a step, by its profile and by what the engine says that it took."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from innerloop.harness.ceilings.model import Ceilings, Key
from innerloop.harness.result import roofline as limit
from innerloop.harness.result.roofline import cost_of, section, total_peaks
from innerloop.harness.spec.resolve import load_model
from innerloop.harness.store.typed import document
from tests.harness.ceilings.rates import memory, rate
from tests.harness.export.perfetto_reader import Read
from tests.real import ONE_MORE, check_limit, run

MEMORY = memory(copy=30e9)
SHORT = """\
prompt: {tokens: 16}
output: {tokens: 8}
load: {kind: offline, requests: 8}
warmup: {requests: 2, output_tokens: 2, max_rounds: 1}
"""


def spec(name, **settings):
    model = load_model(name)
    quantization = model.quantization.method if model.quantization else None
    given = {"dtype": model.dtype, "quantization": quantization, "tensor_parallel": 1, **settings}
    return {"model": name, "model_profile": model.model_dump(mode="json"), "settings": given}


def linear_of(name: str) -> int:
    found = load_model(name).sizes()
    assert found is not None
    return found.linear


def ceilings(**rates):
    matrix = {name: rate(ops) for name, ops in rates.items()}
    return Ceilings(Key("cpu", "a CPU", "2.13.0", cores=2), MEMORY, matrix, "2026-11-20T13:00:00+00:00")


def stored(name):
    return load_model(name).weights_bytes()


@pytest.mark.parametrize("name", ["llama-tiny", "llama-1b", "llama3-8b", "llama3-8b-awq", "llama3-8b-fp8"])
def test_a_decode_step_reads_every_weight_once_but_of_the_embeddings_its_rows(name):
    model, cost = load_model(name), cost_of(spec(name), {})
    table = model.hidden_size * model.vocab_size * 2 if not name.startswith("llama-tiny") else 8192 * 512 * 4
    unread = 0 if model.tie_word_embeddings else table  # a tied table is read as the lm_head
    assert cost.layers_bytes + cost.lm_head_bytes == stored(name) - unread


def test_operations_are_two_a_parameter():
    cost = cost_of(spec("llama3-8b"), {})
    assert cost.linear_ops == 2 * linear_of("llama3-8b")
    assert cost.lm_head_ops == 2 * 4096 * 128256
    assert cost.linear_ops + cost.lm_head_ops == pytest.approx(2 * 7.5e9, rel=0.01)  # 8.03 B less the input embeddings
    assert cost.attention_ops == 4 * 32 * 32 * 128


def test_awq_reads_four_bits_and_computes_in_sixteen():
    full, packed = cost_of(spec("llama3-8b"), {}), cost_of(spec("llama3-8b-awq"), {})
    assert packed.layers_bytes < full.layers_bytes / 3.5
    assert packed.linear_ops == full.linear_ops
    assert packed.linear_dtype == packed.dtype == "float16"


def test_fp8_computes_the_matrices_in_fp8_and_the_rest_in_the_runs_dtype():
    cost = cost_of(spec("llama3-8b-fp8"), {"quantization": "compressed-tensors"})
    assert (cost.linear_dtype, cost.dtype) == ("float8_e4m3fn", "bfloat16")


def test_weights_made_fp8_on_loading_are_read_as_fp8():
    made = cost_of(spec("llama3-8b", quantization="fp8"), {})
    norms = 4096 * 65 * 2
    assert made.layers_bytes - norms == linear_of("llama3-8b")
    assert made.linear_dtype == "float8_e4m3fn"


def test_the_engines_own_account_goes_before_what_was_asked():
    cost = cost_of(spec("llama-tiny"), {"dtype": "bfloat16", "kv_cache_dtype": "fp8_e5m2"})
    assert cost.dtype == "bfloat16"
    assert cost.kv_bytes == 2 * 8 * 4 * 64
    assert cost_of(spec("llama-tiny"), {"kv_cache_dtype": "auto"}).kv_bytes == 2 * 8 * 4 * 64 * 4


def test_devices_share_bytes_and_operations_and_bring_peaks_each():
    cost = cost_of(spec("llama3-8b", tensor_parallel=4), {})
    assert cost == cost_of(spec("llama3-8b"), {})
    peaks = total_peaks(ceilings(bfloat16=1e12), cost, 4)
    assert peaks is not None
    assert peaks.bytes_per_s == 160e9
    assert peaks.ops_per_s == peaks.linear_ops_per_s == 4e12


@pytest.mark.parametrize(
    ("device", "tried", "known"), [("cuda", {}, False), ("cuda", {"float8_e4m3fn": None}, True), ("cpu", {}, True)]
)
def test_on_a_gpu_fp8_is_not_held_against_the_rate_of_another_format(device, tried, known):
    """What an engine quantizes by its own argument was not asked for when the ceilings were measured."""
    cost = cost_of(spec("llama3-8b"), {"quantization": "fbgemm_fp8"})
    measured = ceilings(bfloat16=1e12, float32=1e11)
    matrix = {**measured.matrix, **{name: {"ops_per_s": rate} for name, rate in tried.items()}}
    measured = replace(measured, key=replace(measured.key, device=device), matrix=matrix)
    assert (total_peaks(measured, cost, 1) is not None) is known


def test_more_devices_than_kv_heads_read_copies():
    assert cost_of(spec("llama3-8b", tensor_parallel=16), {}).kv_bytes == 2 * cost_of(spec("llama3-8b"), {}).kv_bytes


def test_a_rate_that_was_not_measured_is_a_reason(offline_tables):
    found = section(spec("llama-tiny"), {}, offline_tables, ceilings(bfloat16=1e12), None)
    assert found.reason == "this machine's float32 matmul throughput is unknown"
    assert found.peaks is None


def test_without_ceilings_the_reason_is_theirs(offline_tables):
    assert section({}, {}, offline_tables, None, "no torch").reason == "no torch"
    assert limit.notes(section({}, {}, offline_tables, None, None)) == []


def test_a_spec_without_its_model_is_a_reason(offline_tables):
    found = section({"settings": {}}, {}, offline_tables, ceilings(float32=1e12), None)
    assert "model_profile" in (found.reason or "")


def test_a_section_is_plain_data_and_says_what_it_stands_on(offline_tables):
    found = section(spec("llama-tiny"), {}, offline_tables, ceilings(float32=4e11), None)
    assert json.loads(json.dumps(document(found))) == document(found)
    assert found.peaks is not None
    assert found.bound_share is not None
    assert found.peaks.bytes_per_s == 40e9
    assert 0 < (found.bound_share.all or 0) < 1


def test_ranks_on_a_cpu_share_the_one_that_was_measured(offline_tables):
    found = section(spec("llama-tiny", tensor_parallel=2), {}, offline_tables, ceilings(float32=4e11), None)
    assert found.peaks is not None
    assert found.total_peaks is not None
    assert found.peaks.devices == 1
    assert found.total_peaks.bytes_per_s == found.peaks.bytes_per_s


def test_ceilings_measured_on_a_busy_machine_are_a_note(offline_tables):
    found = section(spec("llama-tiny"), {}, offline_tables, ceilings(float32=4e11), None)
    assert limit.notes(found) == []
    assert found.peaks is not None
    busy = replace(found.peaks, disturbed=True, other_cores=1.2)
    [note] = limit.notes(replace(found, peaks=busy))
    assert "other processes used 1.2 cores" in note
    assert limit.notes(replace(found, above_bound="too fast")) == ["too fast"]


@pytest.mark.real
@ONE_MORE
@pytest.mark.parametrize("engine", ["vllm", "torch"])
def test_a_model_of_1b_shape_is_held_against_the_limit(engine, tmp_path, measured_here):
    """A layer of Llama 3.2 1B, so that no 2.5 GB checkpoint has to be made."""
    (tmp_path / "short.yaml").write_text(SHORT)
    shape = ("num_hidden_layers=1", "vocab_size=8064", "bos_token_id=1", "eos_token_id=2")
    small = [f"--model-arg={arg}" for arg in shape]
    sizes = [f"--set={arg}" for arg in ("context_length=256", "kv_cache_tokens=4096", "max_batch_size=8")]
    done = run(
        "--engine", engine, "--model", "llama-1b", *small, *sizes, "--workload", tmp_path / "short.yaml", "--json",
        "--trace", "--out", tmp_path / "run",
        cwd=tmp_path, **measured_here,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    roofline = result["roofline"]
    check_limit(result)
    assert roofline["per_step"]["decode_only"]["decode_positions"] == pytest.approx(8)
    trace = Read((tmp_path / "run" / "trace.perfetto-trace").read_bytes())
    trace.check_nesting()
    assert len([one for one in trace.named("steps", trace.slices) if one[2] == 0]) == result["counts"]["steps"]


@pytest.mark.parametrize(
    ("effective", "words"), [({"dtype": "nvfp4"}, "computes in 'nvfp4'"), ({"kv_cache_dtype": "quant_policy 42"}, "42")]
)
def test_a_number_format_of_unknown_size_is_a_reason_and_not_a_guess(offline_tables, effective, words):
    found = section(spec("llama-tiny"), effective, offline_tables, ceilings(float32=4e11, bfloat16=4e11), None)
    assert words in str(found.reason)
    assert found.mbu is None


def test_published_figures_are_held_against_the_data_sheet_over_all_the_time(offline_tables):
    """H200: 4.8 TB/s, 989.4 TFLOP/s dense in bfloat16; two of them do twice as much."""
    measured = ceilings(bfloat16=7e14)
    measured = replace(measured, key=replace(measured.key, device="cuda", name="NVIDIA H200"))
    given = spec("llama3-8b", tensor_parallel=2)
    found = section(given, {}, offline_tables, measured, None)
    steps = offline_tables.steps
    span_s = (steps["end_ns"][-1] - steps["start_ns"][0]) / 1e9
    assert found.bytes is not None
    assert found.operations is not None
    assert found.mbu_of_datasheet == pytest.approx(found.bytes / span_s / 9.6e12)
    assert found.mfu_of_datasheet == pytest.approx(found.operations / span_s / 1978.8e12)


@pytest.mark.parametrize("name", ["a CPU", "NVIDIA H200 MIG 1g.18gb"])
def test_without_a_data_sheet_there_are_no_such_figures(offline_tables, name):
    measured = ceilings(float32=4e11)
    found = section(
        spec("llama-tiny"), {}, offline_tables, replace(measured, key=replace(measured.key, name=name)), None
    )
    assert found.mbu is not None
    assert (found.datasheet, found.mbu_of_datasheet, found.mfu_of_datasheet) == (None, None, None)
