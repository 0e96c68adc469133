"""What the vLLM adapter touches: in the wheel that the CPU lock pins, and in the oldest and newest release it knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from innerloop.engines.support.versions import is_known
from innerloop.engines.vllm import adapter, native_arguments
from innerloop.engines.vllm.phases import PREPARING
from innerloop.engines.vllm.server import ARGUMENT_MODULES
from innerloop.engines.vllm.settings import RESERVED
from innerloop.harness.environments import parameters
from innerloop.harness.environments.environment import Environment
from innerloop.harness.environments.parameters import Accepted
from innerloop.harness.models.families import BY_ARCHITECTURE
from tests.engines.contracts.locked import locked_version
from tests.engines.contracts.source import Table, missing
from tests.engines.contracts.wheels import source_of
from tests.engines.support.loads import make_load

CORE = "vllm.v1.engine.core:EngineCore"
SCHEDULER = "vllm.v1.core.sched.scheduler:Scheduler"
OUTPUT = "vllm.v1.core.sched.output:SchedulerOutput"
RUNNER_V1 = "vllm.v1.worker.gpu_model_runner:GPUModelRunner"
RUNNER_V2 = "vllm.v1.worker.gpu.model_runner:GPUModelRunner"
LLM = "vllm.v1.engine.llm_engine:LLMEngine"
ASYNC = "vllm.v1.engine.async_llm:AsyncLLM"
COMPLETION = "vllm.entrypoints.openai.completion.protocol"

TOUCHES = [
    "vllm:__version__",
    # Read from the environment: taken out of it by the adapter, and set by the environment's recipe.
    "vllm.envs:VLLM_API_KEY",
    "vllm.envs:VLLM_CPU_KVCACHE_SPACE",
    "vllm.envs:VLLM_ENABLE_V1_MULTIPROCESSING",
    "vllm.engine.arg_utils:EngineArgs.create_engine_config(usage_context)",
    "vllm.usage.usage_lib:UsageContext.LLM_CLASS",
    "vllm.v1.engine.core_client:InprocClient.engine_core",
    "vllm.v1.engine.core_client:InprocClient.add_request ~ self.engine_core.add_request(req, request_wave)",
    "vllm.v1.engine.core_client:InprocClient.shutdown()",
    "vllm.v1.executor.abstract:Executor.get_class(vllm_config)",
    "vllm.sampling_params:SamplingParams(temperature, ignore_eos, max_tokens, detokenize, output_kind)",
    "vllm.sampling_params:RequestOutputKind.DELTA",
    "vllm.v1.engine:EngineCoreRequest(request_id, prompt_token_ids, mm_features, sampling_params, pooling_params,"
    " arrival_time, lora_request, cache_salt, data_parallel_rank)",
    "vllm.v1.engine:EngineCoreOutputs(outputs)",
    "vllm.v1.engine:EngineCoreOutput(request_id, new_token_ids, finish_reason)",
    f"{CORE}(vllm_config, executor_class, log_stats)",
    f"{CORE}.vllm_config",
    f"{CORE}.scheduler",
    f"{CORE}.model_executor",
    f"{CORE}.batch_queue",
    f"{CORE}.preprocess_add_request(request)",
    f"{CORE}.add_request(request, request_wave)",
    f"{CORE}.reset_prefix_cache()",
    f"{CORE}.step_fn",
    f"{CORE}.step()",
    f"{CORE}.step_with_batch_queue()",
    f"{CORE}.post_step(model_executed)",
    f"{CORE}.step ~ self.scheduler.update_from_output(scheduler_output, model_output)",
    f"{SCHEDULER}.schedule()",
    f"{SCHEDULER}.update_from_output(scheduler_output, model_runner_output)",
    f"{SCHEDULER}.has_requests()",
    f"{SCHEDULER}.get_request_counts()",
    f"{SCHEDULER}.kv_cache_manager",
    "vllm.v1.core.kv_cache_manager:KVCacheManager.usage",
    f"{SCHEDULER}.requests",
    f"{OUTPUT}(num_scheduled_tokens, scheduled_new_reqs, preempted_req_ids, finished_req_ids,"
    " total_num_scheduled_tokens)",
    "vllm.v1.core.sched.output:NewRequestData(req_id, num_computed_tokens)",
    "vllm.v1.request:Request.is_prefill_chunk",
    "vllm.v1.request:Request.num_output_tokens",
    "vllm.v1.executor.abstract:Executor.execute_model(scheduler_output, non_block)",
    "vllm.v1.executor.abstract:Executor.sample_tokens(grammar_output, non_block)",
    "vllm.v1.executor.uniproc_executor:UniProcExecutor.driver_worker",
    "vllm.config:VllmConfig(model_config, cache_config, scheduler_config, parallel_config, device_config,"
    " compilation_config)",
    "vllm.config:ModelConfig(dtype, quantization, max_model_len, enforce_eager, seed)",
    "vllm.config:CacheConfig(cache_dtype, num_gpu_blocks, block_size, enable_prefix_caching)",
    "vllm.config:SchedulerConfig(max_num_seqs, max_num_batched_tokens, enable_chunked_prefill, async_scheduling)",
    "vllm.config:ParallelConfig(tensor_parallel_size, distributed_executor_backend)",
    "vllm.config:DeviceConfig.device_type",
    "vllm.config:CompilationConfig(cudagraph_mode)",
    # The model runners of both generations: what loading took, the attention backend, input preparation.
    "vllm.v1.worker.worker_base:WorkerWrapperBase.worker",
    "vllm.v1.worker.gpu_worker:Worker.model_runner",
    "vllm.v1.worker.cpu_worker:CPUWorker.model_runner",
    *(f"{runner}.{name}" for runner in (RUNNER_V1, RUNNER_V2) for name in ("model_memory_usage", "attn_groups")),
    "vllm.v1.worker.utils:AttentionGroup(backend)",
    "vllm.v1.attention.backend:AttentionBackend.get_name()",
    *(f"{RUNNER_V1 if name.startswith('_') else RUNNER_V2}.{name}" for name in PREPARING),
    f"{RUNNER_V1}.execute_model(scheduler_output)",
    f"{RUNNER_V1}.execute_model ~ self._preprocess(scheduler_output, num_tokens_padded, intermediate_tensors)",
    f"{RUNNER_V2}.execute_model(scheduler_output)",
    f"{RUNNER_V2}.model_state",
    "vllm.v1.worker.gpu.model_states.interface:ModelState.prepare_inputs(input_batch, req_states)",
    f"{RUNNER_V2}.execute_model ~ self.model_state.prepare_inputs(input_batch, self.req_states)",
    # Layer engine.
    f"{LLM}(vllm_config, executor_class, log_stats, usage_context, multiprocess_mode)",
    f"{LLM}.add_request(request_id, prompt, params)",
    f"{LLM}.step()",
    f"{LLM}.reset_prefix_cache()",
    f"{LLM}.engine_core",
    f"{LLM}.output_processor",
    f"{LLM}.step ~ self.engine_core.get_output()",
    "vllm.v1.engine.output_processor:OutputProcessor.process_outputs(engine_core_outputs)",
    "vllm.inputs.engine:tokens_input(prompt_token_ids)",
    "vllm.outputs:RequestOutput(request_id, outputs, finished)",
    "vllm.outputs:CompletionOutput(token_ids)",
    # Layer async.
    f"{ASYNC}(vllm_config)",
    f"{ASYNC}.from_vllm_config(vllm_config, disable_log_stats)",
    f"{ASYNC}.generate(prompt, sampling_params, request_id)",
    f"{ASYNC}.reset_prefix_cache()",
    f"{ASYNC}.shutdown()",
    f"{ASYNC}.vllm_config",
    f"{ASYNC}.__init__ ~ EngineCoreClient.make_async_mp_client",
    # Layer http.
    "vllm.entrypoints.openai.api_server:run_server(args)",
    "vllm.entrypoints.openai.models.api_router:show_available_models ~ router.get('/v1/models')",
    "vllm.utils.argparse_utils:FlexibleArgumentParser.parse_args(args)",
    f"{COMPLETION}:CompletionRequest(model, prompt, max_tokens, temperature, ignore_eos, stream, return_token_ids)",
    f"{COMPLETION}:CompletionResponseStreamChoice(token_ids, finish_reason)",
    f"{COMPLETION}:CompletionStreamResponse(choices)",
]
NEWER = {"device_ids", "max_num_active_seqs"}  # than the release at the lower end, or than its table
# Fields of EngineArgs: all that the common settings can become, what layer http sets, and what is refused by name.
ARGUMENTS = sorted(
    {"generation_config", "served_model_name", *RESERVED} - NEWER
    | {
        name
        for settings in (
            {"kv_memory_fraction": 0.9, "chunked_prefill": True, "cuda_graphs": False},
            {"kv_cache_tokens": 4096},
        )
        for name in native_arguments(make_load(**settings))
    }
)
TOUCHES.append(f"vllm.engine.arg_utils:EngineArgs({', '.join(ARGUMENTS)})")
NOT_IN_TABLES = [  # read from the locked release only
    f"vllm.engine.arg_utils:EngineArgs({', '.join(NEWER)})",
    f"{OUTPUT}(scheduled_spec_decode_tokens)",
    "vllm.config:VllmConfig(speculative_config)",
    "vllm.config:SpeculativeConfig(method, num_speculative_tokens)",
    # Ranks in processes of their own: a function is run in each, with its worker.
    "vllm.v1.executor.multiproc_executor:MultiprocExecutor.collective_rpc(method, args)",
    "vllm.v1.executor.multiproc_executor:MultiprocExecutor.collective_rpc ~"
    " cloudpickle.dumps(method, protocol=pickle.HIGHEST_PROTOCOL)",
    "vllm.v1.executor.multiproc_executor:WorkerProc._execute_worker_rpc ~"
    " partial(cloudpickle.loads(method), self.worker)",
    "vllm.v1.executor.multiproc_executor:MultiprocExecutor._init_executor ~ self.world_size == tp_size",
    "vllm.v1.worker.worker_base:WorkerBase.rank",
    "vllm.envs:VLLM_CPU_OMP_THREADS_BIND",
]
TABLES = sorted((Path(__file__).parent / "tables").glob("vllm-*.json"))


@pytest.fixture(scope="module")
def source():
    return source_of("vllm-cpu", locked_version("vllm-cpu.txt", "vllm-cpu"))


@pytest.mark.parametrize(("lock", "name"), [("vllm-cpu.txt", "vllm-cpu"), ("vllm-cuda.txt", "vllm")])
def test_the_locks_pin_versions_that_the_adapter_knows(lock, name):
    assert is_known(locked_version(lock, name), adapter.versions)


def test_the_tables_hold_the_oldest_and_the_newest_version_that_the_adapter_knows():
    stored = [Table(path).content["version"] for path in TABLES]
    assert [version.rpartition(".")[0] for version in stored] == list(adapter.versions)


@pytest.mark.slow
def test_everything_that_the_adapter_touches_is_there(source):
    assert missing(TOUCHES, source) == []


def test_speculation_and_ranks_are_as_the_adapter_takes_them(source):
    assert missing(NOT_IN_TABLES, source) == []


def test_what_its_arguments_take_is_read_from_their_annotations(source, tmp_path):
    nowhere = Environment("vllm", "cpu", tmp_path, tmp_path, None, None, {}, "0", "3.12.0", sites=(source.folder,))
    assert adapter.parameters is not None
    known = parameters.arguments_of(nowhere, adapter.parameters) or {}
    assert known["block_size"] == Accepted(("int",))
    assert known["cpu_offload_gb"] == Accepted(("float",))
    assert known["enable_expert_parallel"] == Accepted(("bool",))
    assert known["scheduling_policy"] == Accepted(choices=("fcfs", "priority"))
    assert "flashinfer_cutlass" in getattr(known["moe_backend"], "choices", ())
    assert known["load_format"] is None  # any text
    assert sum(accepted is not None for accepted in known.values()) > len(known) / 2


def test_its_registry_has_every_architecture_that_innerloop_knows(source):
    registry = (source.folder / "vllm/model_executor/models/registry.py").read_text()
    assert adapter.architectures("cpu") is None  # it takes what the engine loads
    assert [name for name in BY_ARCHITECTURE if f'"{name}"' not in registry] == []


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_everything_is_there_in_the_releases_at_both_ends(path):
    signatures = [touch for touch in TOUCHES if " ~ " not in touch]  # a table keeps no bodies
    assert missing(signatures, Table(path)) == []


def arguments_of(module):
    return [
        f"{module}:make_arg_parser(parser)",
        f"{module}:validate_parsed_serve_args(args)",
        f"{module}:FrontendArgs(host, port, uvicorn_log_level, disable_uvicorn_access_log)",
    ]


# Each release keeps its server's command line elsewhere; a table holds what it found at one of the three places.
ALSO_STORED = [touch for module in ARGUMENT_MODULES for touch in arguments_of(module)]


def test_the_servers_command_line_is_at_one_of_the_places_where_it_is_looked_for(source):
    assert any(missing(arguments_of(module), source) == [] for module in ARGUMENT_MODULES)


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_the_servers_command_line_is_found_in_the_releases_at_both_ends(path):
    assert any(missing(arguments_of(module), Table(path)) == [] for module in ARGUMENT_MODULES)


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("vllm/v1/engine/core.py", "def post_step(self, model_executed", "def post_step(self, ran", "model_executed"),
        ("vllm/engine/arg_utils.py", "    max_num_batched_tokens: ", "    max_step_tokens: ", "max_num_batched_tokens"),
        ("vllm/v1/core/sched/output.py", "    preempted_req_ids: ", "    thrown_req_ids: ", "preempted_req_ids"),
    ],
)
def test_a_renamed_parameter_is_found_out(source, changed, file, old, new, words):
    reasons = missing(TOUCHES, changed(source, file, old, new))
    assert any(f"has no parameter {words}" in reason for reason in reasons), reasons
