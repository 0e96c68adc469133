"""What the LMDeploy adapter touches, in the wheel that its lock pins."""

from __future__ import annotations

import json

import pytest

from innerloop.engines.contract import UnsupportedSetting
from innerloop.engines.lmdeploy import adapter
from innerloop.engines.lmdeploy.http import served
from innerloop.engines.lmdeploy.settings import ON_PYTORCH, native_arguments
from innerloop.engines.support.versions import is_known
from innerloop.harness.models.families import BY_ARCHITECTURE
from innerloop.harness.profiles.engines import load_engine
from tests.engines.contracts.locked import locked_version
from tests.engines.contracts.source import missing
from tests.engines.contracts.wheels import source_of
from tests.engines.support.loads import make_load

INFER = "lmdeploy.turbomind.turbomind:TurboMindInstance.async_stream_infer"

TURBOMIND = [
    "lmdeploy:__version__",
    "lmdeploy:TurbomindEngineConfig",
    "lmdeploy.messages:GenerationConfig(max_new_tokens, ignore_eos, top_k, top_p, temperature)",
    "lmdeploy.turbomind:is_available()",
    "lmdeploy.turbomind:_import_error",
    "lmdeploy.turbomind:TurboMind.from_pretrained(pretrained_model_name_or_path, engine_config, trust_remote_code)",
    "lmdeploy.turbomind.turbomind:TurboMind.create_instance()",
    "lmdeploy.turbomind.turbomind:TurboMind.close()",
    "lmdeploy.turbomind.turbomind:TurboMind.model_comm",
    "lmdeploy.turbomind.turbomind:TurboMind.engine_config",
    "lmdeploy.turbomind.turbomind:TurboMind.session_len",
    "lmdeploy.turbomind.turbomind:TurboMind.get_schedule_metrics()",
    "lmdeploy.messages:ScheduleMetrics(active_seqs, waiting_seqs, cache_usage)",
    "lmdeploy.turbomind.turbomind:TurboMindInstance._get_generation_config(cfg)",
    "lmdeploy.turbomind.turbomind:TurboMindInstance.prepare_inputs(input_ids, gen_config)",
    "lmdeploy.turbomind.turbomind:TurboMindInstance.errcode_map",
    "lmdeploy.messages:ResponseType.OUT_OF_MEMORY",
    "lmdeploy.turbomind.turbomind:_np_dict_to_tm_dict(np_dict)",
    "lmdeploy.turbomind.turbomind:_tm_dict_to_torch_dict(tm_dict)",
    "lmdeploy.turbomind.turbomind:_tm",
    # TurboMind's own extension is compiled: what is asked of it is what LMDeploy's Python asks of it.
    "lmdeploy.turbomind.turbomind:TurboMindInstance._create_model_instance ~ self.tm_model.model_comm.create_request()",
    f"{INFER} ~ _tm.SessionParam(id=session_id, step=0)",
    f"{INFER} ~ self.tm_model.mm_input_converter(multimodal)",
    "lmdeploy.turbomind.turbomind:TurboMind.mm_input_converter ~ not multimodal",  # then None, as `forward` gets here
    f"{INFER} ~ self.model_inst.forward(inputs, mm_inputs, session, gen_cfg, stream_output,"
    " self.tm_model.engine_config.enable_metrics, signal_cb)",
    f"{INFER} ~ output_ids_buf = outputs['output_ids']",
    f"{INFER} ~ state = shared_state.consume()",
    f"{INFER} ~ status, seq_len = (state.status, state.seq_len)",
    f"{INFER} ~ prev_len = input_len",
    f"{INFER} ~ output_ids_buf[prev_len:seq_len].tolist()",
    f"{INFER} ~ self.model_inst.cancel()",
    f"{INFER} ~ ret_status = ResponseType.FINISH if status == 7 else ResponseType.CANCEL",
]
PYTORCH = [
    "lmdeploy:PytorchEngineConfig",
    "lmdeploy.pytorch.engine:Engine.from_pretrained(pretrained_model_name_or_path, engine_config, trust_remote_code)",
    "lmdeploy.pytorch.engine:Engine.start_loop()",
    "lmdeploy.pytorch.engine:Engine.close()",
    "lmdeploy.pytorch.engine:Engine.get_schedule_metrics()",
    *(
        f"lmdeploy.pytorch.engine:Engine.{name}"
        for name in (
            "req_manager",
            "_engine_loop",
            "model_config",
            "cache_config",
            "engine_config",
            "scheduler_config",
            "backend_config",
            "max_session_len",
            "scheduler",
        )
    ),
    # What a prompt finds in the prefix cache is known from its admission on, through the one trie's own attribute.
    "lmdeploy.pytorch.paging.scheduler:Scheduler.block_trie",
    "lmdeploy.pytorch.paging.prefill_scheduler:_PrefillScheduler.__init__ ~ self.block_trie = block_trie",
    "lmdeploy.pytorch.paging.block_trie:BlockTrie.finalize_match(seq)",
    "lmdeploy.pytorch.paging.prefill_scheduler:_PrefillAdmissionAttempt._allocate_and_commit ~"
    " prefill.block_trie.finalize_match(seq)",
    "lmdeploy.pytorch.messages:SchedulerSequence.cached_tokens",
    "lmdeploy.pytorch.messages:SchedulerSequence.session_id",
    # A closed engine whose loop never ran releases its device at once.
    "lmdeploy.pytorch.engine.engine:Engine.close ~ self._loop_finally()",
    "lmdeploy.pytorch.engine.engine:Engine.async_loop ~ self._loop_finally()",
    "lmdeploy.pytorch.engine.request:RequestManager.build_sender()",
    "lmdeploy.pytorch.engine.request:RequestManager._loop_task",
    "lmdeploy.pytorch.engine.request:RequestManager.wait_tasks()",
    "lmdeploy.pytorch.engine.request:RequestManager.wait_tasks ~ self._sender_wait_task.cancel()",
    "lmdeploy.pytorch.engine.request:RequestSender.batched_send_async(req_types, data)",
    "lmdeploy.pytorch.engine.request:RequestSender.send_async(req_type, data)",
    "lmdeploy.pytorch.engine.request:RequestType.ADD_SESSION",
    "lmdeploy.pytorch.engine.request:RequestType.ADD_MESSAGE",
    "lmdeploy.pytorch.engine.request:RequestType.END_SESSION",
    "lmdeploy.pytorch.engine.engine:Engine._on_add_session ~ req.data['session_id']",
    "lmdeploy.pytorch.engine.engine:Engine._on_add_session ~ req.data.get('response', True)",
    "lmdeploy.pytorch.engine.engine:Engine._on_end_session ~ req.data['session_id']",
    "lmdeploy.pytorch.engine.engine:Engine._on_end_session ~ req.data.get('response', True)",
    "lmdeploy.pytorch.engine.engine:Engine._add_message ~ req.data['session_id']",
    "lmdeploy.pytorch.engine.engine:Engine._add_message ~ req.data['token_ids']",
    "lmdeploy.pytorch.engine.engine:Engine._add_message ~ req.data['sampling_param']",
    "lmdeploy.pytorch.engine.engine:Engine._add_message ~ req.data['adapter_name']",
    "lmdeploy.pytorch.messages:SamplingParam.from_gen_config(gen_config)",
    "lmdeploy.pytorch.messages:SchedulerSequence.num_new_tokens",
    "lmdeploy.pytorch.messages:SchedulerSequence.status",
    "lmdeploy.pytorch.messages:MessageStatus.RUNNING",
    "lmdeploy.pytorch.engine.engine_loop:EngineLoop._make_infer_outputs(batched_outputs, running, model_inputs, delta)",
    "lmdeploy.pytorch.engine.engine_loop:EngineLoop._finish_forward_output ~"
    " self._make_infer_outputs(out, running=running, model_inputs=model_inputs, delta=delta)",
    # The next batch is chosen before this one's outputs; only sequences that still run get one.
    "lmdeploy.pytorch.engine.engine_loop:EngineLoop._main_loop_get_outputs ~"
    " forward_inputs, next_running = await self._prefetch_next_inputs()",
    "lmdeploy.pytorch.engine.engine_loop:EngineLoop._make_infer_outputs ~"
    " is_run = [seq.status == MessageStatus.RUNNING for seq in running]",
    "lmdeploy.pytorch.engine.engine:InferOutput(token_ids, finish)",
    "lmdeploy.pytorch.engine.engine:Engine._get_max_session_len ~ max_tokens -= self.cache_config.block_size",
    "lmdeploy.pytorch.paging.scheduler:Scheduler.schedule_metrics ~"
    " cache_usage = 1.0 - free_blocks / total_blocks if total_blocks else 0.0",
    "lmdeploy.pytorch.engine.executor.base:ExecutorBase._get_num_gpu_blocks ~"
    " raise RuntimeError('No enough gpu memory for kv cache.')",
    "lmdeploy.pytorch.model_inputs:ModelInputs(input_ids, is_decoding, is_chunk, is_last_chunk)",
    "lmdeploy.pytorch.config:ModelConfig(dtype, quant_config)",
    "lmdeploy.pytorch.config:QuantizationConfig(quant_method)",
    "lmdeploy.pytorch.config:SchedulerConfig(max_batches)",
    "lmdeploy.pytorch.config:BackendConfig(eager_mode)",
    "lmdeploy.pytorch.config:CacheConfig(max_prefill_token_num, num_gpu_blocks, num_reserved_gpu_blocks, block_size,"
    " enable_prefix_caching)",
]
QUANTIZED = [  # what of compressed-tensors' weights each backend runs
    "lmdeploy.turbomind.converter:get_tm_config ~ _format = quant_config['config_groups']['group_0']['format']",
    "lmdeploy.turbomind.converter:get_tm_config ~ _num_bits == 4 and _type == 'int'",
    "lmdeploy.pytorch.config:_parse_compressed_tensors_config # 20798b11a099",
    "lmdeploy.pytorch.nn.linear:build_linear ~ raise RuntimeError(f'Unsupported quant method: {quant_method}')",
    "lmdeploy.pytorch.nn.moe.compressed_tensors:FusedMoEW4A16",
]
SERVER = [  # layer http
    "lmdeploy.cli.serve:SubCliServe.api_server(args)",
    "lmdeploy.serve.openai.protocol:GenerateReqInput(input_ids, max_tokens, temperature, ignore_eos, stream)",
    "lmdeploy.serve.openai.protocol:GenerateReqOutput(output_ids, meta_info)",
    "lmdeploy.serve.openai.protocol:GenerateReqMetaOutput(finish_reason, prompt_tokens)",
    "lmdeploy.serve.openai.endpoints.generate:register ~ output_ids = res.token_ids",
]
READ = {  # what an engine's config is asked for once it is loaded
    "turbomind": "dtype, model_format, tp, max_batch_size, max_prefill_token_num, quant_policy, cache_block_seq_len,"
    " enable_prefix_caching, async_, session_len",
    "pytorch": "tp, quant_policy, block_size, num_gpu_blocks, session_len",
}
KINDS = {"turbomind": "TurbomindEngineConfig", "pytorch": "PytorchEngineConfig"}
TOUCHES = [
    *TURBOMIND,
    *PYTORCH,
    *QUANTIZED,
    *SERVER,
    *(f"lmdeploy.messages:{KINDS[name]}({fields})" for name, fields in READ.items()),
]


@pytest.fixture(scope="module")
def source():
    return source_of("lmdeploy", locked_version("lmdeploy-cuda.txt", "lmdeploy"))


def test_the_lock_pins_a_version_that_the_adapter_knows():
    assert is_known(locked_version("lmdeploy-cuda.txt", "lmdeploy"), adapter.versions)


def test_everything_that_the_adapter_touches_is_there(source):
    assert missing(TOUCHES, source) == []


@pytest.mark.parametrize("backend", KINDS)
def test_every_native_argument_is_a_field_of_the_backends_config(source, backend):
    args = {"backend": backend}
    kv = {"kv_cache_tokens": 8192} if backend == "pytorch" else {}
    graphs = {"cuda_graphs": True} if backend == "pytorch" else {}
    names: set[str] = set()
    for settings in ({"kv_memory_fraction": 0.9}, {**kv, **graphs}):
        names |= native_arguments(make_load(engine_args=args, **settings)).keys()
    fields = ", ".join(sorted(names - {"backend"}))
    assert missing([f"lmdeploy.messages:{KINDS[backend]}({fields})"], source) == []


@pytest.mark.parametrize("backend", KINDS)
def test_every_option_of_its_server_is_one_of_its_command_line(source, backend):
    only = {"kv_cache_tokens": 8192, "cuda_graphs": False} if backend == "pytorch" else {"kv_memory_fraction": 0.9}
    load = make_load(engine_args={"backend": backend, "block_size": 64}, prefix_caching=True, **only)
    line = json.loads(served(native_arguments(load), load, 1234, "n").told)["command"]
    text = "".join((source.folder / f"lmdeploy/cli/{name}.py").read_text() for name in ("serve", "utils"))
    assert [word for word in line if word.startswith("--") and f"'{word}'" not in text] == []


def test_every_reserved_argument_is_a_field_of_a_backends_config(source):
    kinds = source.module("lmdeploy.messages").classes
    fields = {name for kind in KINDS.values() for name in kinds[kind].fields}
    assert adapter.reserved.keys() - fields == set()


def test_every_argument_that_makes_ranks_or_changes_a_step_is_reserved(source):
    kinds = source.module("lmdeploy.messages").classes
    fields = {name for kind in KINDS.values() for name in kinds[kind].fields}
    parts = {
        "tp",
        "dp",
        "cp",
        "ep",
        "nnodes",
        "rank",
        "dist",
        "role",
        "migration",
        "transfer",
        "mp",
        "dllm",
        "speculative",
    }
    found = {name for name in fields if parts & set(name.split("_"))}
    assert found - adapter.reserved.keys() == {"enable_transfer_obj_ref"}  # how experts are returned to a Ray server


def test_turbominds_budget_for_contexts_is_left_to_it(source):
    assert "max_context_token_num" not in (source.folder / "lmdeploy/turbomind/turbomind.py").read_text()


def test_every_variable_that_the_profile_sets_is_one_of_the_engines(source):
    known = (source.folder / "lmdeploy/pytorch/envs.py").read_text()
    names = [name for name in load_engine("lmdeploy").environments["cuda"].env if name.startswith("LMDEPLOY_")]
    assert names
    assert [name for name in names if f"'{name}'" not in known] == []


@pytest.mark.parametrize(
    ("module", "old", "new", "words"),
    [
        ("lmdeploy/messages.py", "max_prefill_token_num: int = 8192", "max_prefill_tokens: int = 8192", "max_prefill"),
        ("lmdeploy/turbomind/turbomind.py", "step=0)", "step=0, user=1)", "SessionParam"),
        ("lmdeploy/pytorch/engine/engine_loop.py", "delta: 'ModelInputsDelta',\n    ):", "d: 'x',\n    ):", "delta"),
    ],
)
def test_a_renamed_parameter_is_found_out(source, changed, module, old, new, words):
    reasons = missing(TOUCHES, changed(source, module, old, new))
    assert reasons
    assert any(words in reason for reason in reasons)


def test_the_architectures_that_turbomind_lacks_are_those_that_its_own_list_lacks(source):
    listed = (source.folder / "lmdeploy/turbomind/supported_models.py").read_text()
    pytorch = (source.folder / "lmdeploy/pytorch/models/module_map.py").read_text()
    assert [name for name in BY_ARCHITECTURE if f"{name}=" not in listed] == list(ON_PYTORCH)
    assert [name for name in BY_ARCHITECTURE if f"'{name}'" not in pytorch] == []
    load = make_load()
    load.config["architectures"] = ["Gemma3ForCausalLM"]
    with pytest.raises(UnsupportedSetting, match="TurboMind has no such model; use --engine-arg backend=pytorch"):
        native_arguments(load)
    load.engine_args["backend"] = "pytorch"
    assert native_arguments(load)["backend"] == "pytorch"
