"""What the SGLang adapter touches, in the wheel that its lock pins."""

from __future__ import annotations

import re
import sys
from importlib.metadata import distribution, entry_points

import pytest

from innerloop.engines.sglang import adapter, cpu_platform
from innerloop.engines.sglang.settings import native_arguments
from innerloop.engines.support.versions import is_known
from innerloop.harness.models.families import BY_ARCHITECTURE
from innerloop.harness.profiles.engines import load_engine
from tests.engines.contracts.locked import locked_version
from tests.engines.contracts.source import missing
from tests.engines.contracts.wheels import source_of
from tests.engines.support.loads import make_load

SCHEDULER = "sglang.srt.managers.scheduler"
BATCH = "sglang.srt.managers.schedule_batch"
PARTS = "sglang.srt.managers.scheduler_components"
STREAMER = f"{PARTS}.output_streamer"

COMPLETIONS = "sglang.srt.entrypoints.openai.protocol:CompletionRequest"

TOUCHES = [
    "sglang:__version__",
    # Layer http.
    "sglang.srt.entrypoints.http_server:launch_server(server_args)",
    "sglang.srt.entrypoints.http_server:server_info",
    "sglang.srt.entrypoints.http_server:flush_cache",
    "sglang.srt.entrypoints.http_server:health_generate",
    f"{COMPLETIONS}(model, prompt, max_tokens, temperature, ignore_eos, stream, return_token_ids)",
    "sglang.srt.entrypoints.openai.protocol:CompletionResponseStreamChoice(token_ids, finish_reason)",
    "sglang.srt.server_args:ServerArgs.resolve_once()",
    "sglang.srt.server_args:ServerArgs.resolved_dict()",
    "sglang.srt.server_args:PortArgs.init_new(server_args)",
    "sglang.srt.server_args:PortArgs(tokenizer_ipc_name, scheduler_input_ipc_name, detokenizer_ipc_name, instance_id)",
    "sglang.srt.runtime_context:SpawnRanks(world_rank, gpu_id)",
    "sglang.srt.runtime_context:spawn_world_rank(server_args, tp_rank, pp_rank)",
    "sglang.srt.runtime_context:publish(server_args, role, ranks)",
    "sglang.srt.distributed.parallel_state:abort_distributed_environment()",
    f"{SCHEDULER}:Scheduler(server_args, port_args)",
    f"{SCHEDULER}:DynamicGradMode",
    f"{SCHEDULER}:dispatch_event_loop(scheduler)",
    # What is prepared, and the two loops whose passes the adapter repeats: if one changes, it must be read again.
    f"{SCHEDULER}:Scheduler.run_event_loop # acb76acdb9ab",
    f"{SCHEDULER}:_dispatch_event_loop_once # 6853e9353933",
    f"{SCHEDULER}:Scheduler.event_loop_normal # 11db29d161eb",
    f"{SCHEDULER}:Scheduler.event_loop_overlap # 627e92a044e7",
    f"{SCHEDULER}:Scheduler.ingest_requests ~ self.process_input_requests(recv_reqs)",
    f"{SCHEDULER}:Scheduler.process_input_requests(recv_reqs)",
    f"{SCHEDULER}:Scheduler.get_next_batch_to_run(running_batch, last_batch)",
    f"{SCHEDULER}:NextBatchPlan(batch_to_run, running_batch)",
    f"{SCHEDULER}:Scheduler.run_batch(batch)",
    f"{SCHEDULER}:Scheduler.process_batch_result(batch, result)",
    f"{SCHEDULER}:Scheduler.is_disable_overlap_for_batch(batch, last_batch)",
    f"{SCHEDULER}:Scheduler.launch_batch_sample_if_needed(batch_result, cur_batch)",
    f"{SCHEDULER}:Scheduler._apply_war_barrier()",
    f"{SCHEDULER}:Scheduler.on_idle()",
    f"{SCHEDULER}:Scheduler._add_request_to_queue(req, is_retracted)",
    f"{SCHEDULER}:Scheduler.update_running_batch ~ self._add_request_to_queue(req, is_retracted=True)",
    f"{SCHEDULER}:Scheduler.send_abort_output ~ self.ipc_channels.send_to_tokenizer.send_output(abort_req, req)",
    f"{SCHEDULER}:Scheduler.init_output_streamer ~ self.ipc_channels.send_to_detokenizer",
    # What is streamed, and when: a request that streams gets each token, another one every fiftieth.
    f"{STREAMER}:SchedulerOutputStreamer._stream_output_generation ~ self.send_to_detokenizer.send_output(payload)",
    f"{STREAMER}:SchedulerOutputStreamer._stream_output_generation ~ req.finished() and req.finished_output",
    f"{STREAMER}:_GenerationStreamAccumulator.accept ~ stream_interval == 1 or num_unsent >= stream_interval or"
    " (req.send_token_offset == 0 and num_unsent > 0)",
    f"{STREAMER}:_GenerationStreamAccumulator.accept ~"
    " should_output = len(req.output_ids) % self.default_force_stream_interval == 0",
    f"{STREAMER}:_GenerationStreamAccumulator.accept ~ self.rids.append(req.rid)",
    f"{STREAMER}:_GenerationStreamAccumulator.accept ~ self.output_ids.append(output_ids_[send_token_offset:])",
    "sglang.srt.managers.io_struct:BatchTokenIDOutput(rids, output_ids, finished_reasons)",
    # Emptying the cache: refused while a batch is remembered, which a pass without work forgets.
    f"{SCHEDULER}:Scheduler.flush_cache(empty_cache)",
    f"{SCHEDULER}:Scheduler.flush_cache ~ self.is_fully_idle(ignore_waiting=self._engine_paused)",
    f"{SCHEDULER}:Scheduler.get_next_batch_to_run ~ running_batch.filter_batch()",
    f"{SCHEDULER}:Scheduler.release_host_resources()",
    *(
        f"{SCHEDULER}:Scheduler.{name}"
        for name in (
            "enable_overlap",
            "enable_skip_finishing_decode",
            "result_queue",
            "running_batch",
            "last_batch",
            "cur_batch_for_debug",
            "waiting_queue",
            "_sched_idled",
            "ipc_channels",
            "device_module",
            "schedule_stream",
            "tp_worker",
            "max_total_num_tokens",
            "max_running_requests",
            "max_prefill_tokens",
            "chunked_prefill_size",
            "page_size",
            "disable_radix_cache",
            "random_seed",
            "model_config",
        )
    ),
    "sglang.srt.managers.load_snapshot:shm_path_for(ipc_name)",
    "sglang.srt.model_executor.model_runner:ModelRunner.kv_cache_dtype",
    # Why FP8 in blocks is refused; where this is gone, the refusal can go.
    "sglang.srt.models.llama:LlamaForCausalLM._legacy_load_weights"
    " ~ name.replace('.weight_scale_inv', '.weight_scale')",
    "sglang.srt.utils.common:configure_logger(server_args)",
    f"{SCHEDULER}:Scheduler.pool_stats_observer",
    f"{SCHEDULER}:Scheduler.init_pool_stats_observer ~ SchedulerPoolStatsObserver",
    f"{PARTS}.pool_stats_observer:SchedulerPoolStatsObserver.get_pool_stats()",
    f"{PARTS}.pool_stats_observer:PoolStats.get_kv_token_stats()",
    f"{PARTS}.pool_stats_observer:PoolStats.get_kv_token_stats ~ return (num_used, token_usage)",
    f"{PARTS}.ipc_channels:SchedulerIpcChannels(send_to_tokenizer, send_to_detokenizer)",
    f"{PARTS}.output_sender:SenderWrapper.send_output(output, recv_obj)",
    f"{BATCH}:ScheduleBatch(reqs, forward_mode, extend_num_tokens, decoding_reqs, chunked_req)",
    f"{BATCH}:ScheduleBatch.copy()",
    f"{BATCH}:ScheduleBatch.mix_with_running ~ self.extend_num_tokens = self.extend_num_tokens + running_bs",
    f"{BATCH}:Req.rid",
    f"{BATCH}:Req.cached_tokens",
    f"{BATCH}:ScheduleBatch.prepare_for_extend ~ new_cached = pre_len - req.already_computed",
    f"{BATCH}:ScheduleBatch.prepare_for_extend ~ not req.retracted_stain",
    f"{BATCH}:Req.output_ids",
    f"{BATCH}:Req.finished()",
    f"{BATCH}:Req.finished_reason",
    f"{BATCH}:BaseFinishReason.to_json()",
    f"{BATCH}:FINISH_ABORT.to_json ~ {{'type': 'abort', 'message': self.message, 'status_code': self.status_code,"
    " 'err_type': self.err_type}",
    "sglang.srt.model_executor.forward_batch_info:ForwardMode.is_extend()",
    "sglang.srt.managers.utils:GenerationBatchResult(copy_done)",
    f"{PARTS}.batch_result_processor:SchedulerBatchResultProcessor.process_batch_result_decode ~"
    " result.copy_done.synchronize()",
    "sglang.srt.managers.io_struct:TokenizedGenerateReqInput(rid, input_text, input_ids, input_embeds, mm_inputs,"
    " token_type_ids, sampling_params, return_logprob, logprob_start_len, top_logprobs_num, token_ids_logprob, stream)",
    "sglang.srt.sampling.sampling_params:SamplingParams(max_new_tokens, temperature, ignore_eos)",
    "sglang.srt.sampling.sampling_params:SamplingParams.normalize(tokenizer)",
    # An output of exactly the length that was asked for needs a context so much longer.
    f"{SCHEDULER}:Scheduler.init_req_max_new_tokens ~ self.max_req_len - input_len - 1",
    "sglang.srt.managers.tp_worker:TpModelWorker.get_worker_info ~ max_req_input_len = max_req_len - 5",
    "sglang.srt.managers.tp_worker:TpModelWorker.model_runner",
    "sglang.srt.model_executor.pool_configurator:MemoryPoolConfig.__post_init__ ~"
    " msg = 'Not enough memory. Please try to increase --mem-fraction-static.'",
    "sglang.srt.mem_cache.kv_cache_configurator:KVCacheConfigurator._profile_available_bytes ~ rest_memory <= 0",
    "sglang.srt.model_executor.model_runner:ModelRunner.weight_load_mem_usage",
    "sglang.srt.model_executor.model_runner:ModelRunner.model",
    # The platform for CPUs: how it is found, and what it is made of.
    "sglang.srt.plugins:PLATFORM_PLUGINS_GROUP",
    "sglang.srt.platforms:_resolve_platform ~ entry_points(group=PLATFORM_PLUGINS_GROUP)",
    "sglang.srt.platforms:_resolve_platform ~ _load_platform_class(result)()",
    "sglang.srt.platforms.cpu:CpuDeviceMixin",
    "sglang.srt.platforms.device_mixin:PlatformEnum.OOT",
    "sglang.srt.platforms.interface:SRTPlatform.get_default_attention_backend()",
    "sglang.srt.layers.rotary_embedding.base:RotaryEmbedding.__init__ ~ current_platform.is_out_of_tree()",
    "sglang.srt.model_executor.model_runner:ModelRunner.decode_cuda_graph_runner",
    "sglang.srt.model_executor.model_runner:ModelRunner.eager_runner",
    "sglang.srt.configs.model_config:ModelConfig.dtype",
    "sglang.srt.configs.model_config:ModelConfig.quantization",
    "sglang.srt.configs.model_config:ModelConfig.context_len",
]
READ = {"attention_backend", "tp_size", "base_gpu_id"}  # of what ServerArgs have resolved to
LOOKED_FOR = {"disable_overlap_schedule"}  # among the user's own arguments
FIELDS = "sglang.srt.arg_groups.fields"  # ServerArgs are put together of these


@pytest.fixture(scope="module")
def source():
    return source_of("sglang", locked_version("sglang-cuda.txt", "sglang"))


def server_arguments(source, group="*"):
    """Every field of ServerArgs, as `collect_input_fields` finds them, or those of one group."""
    found = set()
    for path in sorted((source.folder / FIELDS.replace(".", "/")).glob(f"{group}.py")):
        module = source.module(f"{FIELDS}.{path.stem}")
        for kind in module.classes.values():
            found |= set(kind.fields)
    return found


def test_the_locks_pin_one_version_that_the_adapter_knows():
    assert is_known(locked_version("sglang-cuda.txt", "sglang"), adapter.versions)
    assert locked_version("sglang-cpu.txt", "sglang") == locked_version("sglang-cuda.txt", "sglang")


def test_the_platform_is_registered_as_sglang_looks_for_it():
    cpu_platform.register()
    try:
        [found] = entry_points(group="sglang.srt.platforms")
        assert found.name == cpu_platform.NAME == load_engine("sglang").environments["cpu"].env["SGLANG_PLATFORM"]
        assert found.load() is cpu_platform.activate
        assert distribution("innerloop-sglang-cpu").version == "1"
    finally:
        sys.meta_path.pop()
    assert not entry_points(group="sglang.srt.platforms")


@pytest.mark.slow
def test_everything_that_the_adapter_touches_is_there(source):
    assert missing(TOUCHES, source) == []


def test_every_native_argument_is_a_server_argument(source):
    names = READ | LOOKED_FOR
    for settings in ({"kv_memory_fraction": 0.9, "cuda_graphs": False}, {"kv_cache_tokens": 9, "cuda_graphs": True}):
        names |= native_arguments(make_load(**settings)).keys()
    assert names - server_arguments(source) == set()


@pytest.mark.parametrize(
    ("group", "harmless"),
    [
        ("parallel", {"nccl_port", "dist_timeout", "enable_p2p_check"}),
        ("disagg", {"language_model_only"}),
        ("spec", set()),
    ],
)
def test_every_argument_for_what_is_not_stepped_here_is_reserved(source, group, harmless):
    assert server_arguments(source, group) - adapter.reserved.keys() == harmless


def test_every_reserved_argument_is_a_server_argument(source):
    assert adapter.reserved.keys() - server_arguments(source) == set()
    assert {name for name in server_arguments(source) if name.startswith("dllm_")} <= adapter.reserved.keys()


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("sglang/srt/managers/scheduler.py", "last_batch: Optional[ScheduleBatch]\n    ) -> NextBatchPlan",
         "last: Optional[ScheduleBatch]\n    ) -> NextBatchPlan", "has no parameter last_batch"),
        ("sglang/srt/managers/scheduler.py", "self._apply_war_barrier()\n                self.result_queue",
         "self.result_queue", "event_loop_overlap # "),
        ("sglang/srt/managers/io_struct.py", "    token_ids_logprob: Optional[List[int]]\n    # Whether to stream o",
         "    token_ids: Optional[List[int]]\n    # Whether to stream o", "has no parameter token_ids_logprob"),
    ],
)  # fmt: skip
def test_a_renamed_parameter_or_a_changed_loop_is_found_out(source, changed, file, old, new, words):
    reasons = missing(TOUCHES, changed(source, file, old, new))
    assert any(words in reason for reason in reasons), reasons


def test_its_models_have_every_architecture_that_innerloop_knows(source):
    models = (source.folder / "sglang/srt/models").glob("*.py")
    classes = {name for file in models for name in re.findall(r"^class (\w+)\(", file.read_text(), re.M)}
    assert adapter.architectures("cuda") is None  # it takes what the engine loads
    assert [name for name in BY_ARCHITECTURE if name not in classes] == []
