"""A double of SGLang 0.5.23's `Scheduler`: prefill before decode, results one pass late with overlap.

As managers/scheduler.py: a batch's tokens become known when its result is processed, its requests take part in the
next batch before that, a retracted request is queued again (from behind the prefill that was tried first, one at least
stays, and a token of its that is under way is thrown away), and what is ended early is told to the tokenizer.
"""

from __future__ import annotations

import contextlib
from array import array
from collections import deque
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any


@dataclass(eq=False)
class Req:
    rid: str
    origin_input_ids: array[int]
    sampling_params: Any
    output_ids: array[int] = field(default_factory=lambda: array("q"))
    computed: int = 0
    is_retracted: bool = False
    launched: int = 0  # tokens that batches under way will bring
    finished_reason: Any = None

    def finished(self) -> bool:
        return self.finished_reason is not None


@dataclass(eq=False)
class ScheduleBatch:
    reqs: list[Req]
    extend: bool
    extend_num_tokens: int | None = None
    decoding_reqs: list[Req] | None = None
    chunked_req: Req | None = None

    @property
    def forward_mode(self) -> Any:
        return SimpleNamespace(is_extend=lambda: self.extend)

    def copy(self) -> ScheduleBatch:
        return ScheduleBatch(self.reqs[:], self.extend)


@dataclass
class Event:
    waited: int = 0

    def synchronize(self) -> None:
        self.waited += 1


class Sender:
    def send_output(self, output: Any, recv_obj: Any = None) -> None:
        raise AssertionError("nobody listens: a socket without a peer would wait for ever")


@dataclass
class Scheduler:
    """`budget`: prefill positions a batch; `mixed`: decoding requests join prefill batches; `retracts_at` and
    `fails_at`: the batch before which a running request loses its cache, and the one that raises."""

    args: Any
    ports: Any = None
    budget: int = 8
    mixed: bool = False
    retracts_at: int = -1
    fails_at: int = -1
    never_overlaps_prefills: bool = False  # SGLANG_DISABLE_CONSECUTIVE_PREFILL_OVERLAP
    snapshot: str = "/nowhere"
    short: str | None = None  # the request that gets a token less than it asked for
    refuses: str | None = None  # the request that is ended while it waits

    def __post_init__(self) -> None:
        self.enable_overlap = not getattr(self.args, "disable_overlap_schedule", False)
        self.enable_skip_finishing_decode = False
        self.waiting_queue: list[Req] = []
        self.running_batch = ScheduleBatch([], False)
        self.last_batch: ScheduleBatch | None = None
        self.result_queue: deque[Any] = deque()
        self.ipc_channels = SimpleNamespace(send_to_tokenizer=Sender(), send_to_detokenizer=Sender())
        usage = SimpleNamespace(get_kv_token_stats=lambda: (10, 0.125))
        self.pool_stats_observer = SimpleNamespace(get_pool_stats=lambda: usage)
        self.batches, self.idle, self.released = 0, 0, False
        self.prepared = self._apply = 0
        self.schedule_stream, self.device_module = "stream", SimpleNamespace(StreamContext=contextlib.nullcontext)
        self.max_total_num_tokens, self.max_running_requests, self.page_size = 4096, 64, 1
        self.chunked_prefill_size, self.max_prefill_tokens = self.budget, self.budget
        self.disable_radix_cache, self.random_seed = True, 3
        self.model_config = SimpleNamespace(dtype="torch.bfloat16", quantization=None, context_len=134)
        graphs = object()
        runner = SimpleNamespace(
            decode_cuda_graph_runner=graphs, eager_runner=object(), weight_load_mem_usage=0.5,
            kv_cache_dtype="torch.bfloat16",
        )  # fmt: skip
        self.load_snapshot_writer = SimpleNamespace(path=self.snapshot)
        self.tp_worker = SimpleNamespace(model_runner=runner)

    def run_event_loop(self) -> None:
        self.prepared += 1

    def process_input_requests(self, requests: list[Any]) -> None:
        for r in requests:
            if r.rid == self.refuses:
                self.ipc_channels.send_to_tokenizer.send_output("AbortReq(too long)", r)
            else:
                self._add_request_to_queue(Req(r.rid, r.input_ids, r.sampling_params))

    def _add_request_to_queue(self, req: Req, is_retracted: bool = False) -> None:
        self.waiting_queue.append(req)

    def get_next_batch_to_run(self, running_batch: ScheduleBatch, last_batch: ScheduleBatch | None) -> Any:
        running = running_batch.reqs
        if last_batch is not None and last_batch.extend:
            running = running + [r for r in last_batch.reqs if r is not last_batch.chunked_req and r not in running]
        running = [r for r in running if not r.finished()]
        batch = self._prefill(running)
        if batch is None:
            active = [r for r in running if self._left(r) > 0]
            if self.batches == self.retracts_at and len(active) > 1:
                lost = active.pop()
                running.remove(lost)
                lost.computed, lost.is_retracted = 0, True
                self._add_request_to_queue(lost, is_retracted=True)
            elif self.enable_overlap and not self.enable_skip_finishing_decode:
                active = running
            batch = ScheduleBatch(active, False) if active else None
        elif batch.decoding_reqs:
            running = []
        return SimpleNamespace(running_batch=ScheduleBatch(running, False), batch_to_run=batch)

    def _left(self, req: Req) -> int:
        return req.sampling_params.max_new_tokens - (req.rid == self.short) - len(req.output_ids) - req.launched

    def _prefill(self, running: list[Req]) -> ScheduleBatch | None:
        reqs, total, chunked = [], 0, None
        while self.waiting_queue and total < self.budget:
            req = self.waiting_queue[0]
            wanted = len(req.origin_input_ids) + len(req.output_ids) - req.computed
            count = min(wanted, self.budget - total)
            req.computed, req.is_retracted = req.computed + count, False
            total += count
            reqs.append(req)
            if count < wanted:
                chunked = req
            else:
                self.waiting_queue.pop(0)
        if not reqs:
            return None
        decoding = [r for r in running if self._left(r) > 0] if self.mixed else None
        return ScheduleBatch(reqs + (decoding or []), True, total + len(decoding or ()), decoding, chunked)

    def run_batch(self, batch: ScheduleBatch) -> Any:
        if self.batches == self.fails_at:
            raise RuntimeError("CUDA out of memory")
        self.batches += 1
        for req in batch.reqs:
            req.launched += req is not batch.chunked_req
        return SimpleNamespace(copy_done=Event() if self.enable_overlap else None, chunked=batch.chunked_req)

    def process_batch_result(self, batch: ScheduleBatch, result: Any) -> None:
        if result.copy_done is not None:
            result.copy_done.synchronize()
        for req in batch.reqs:
            if req.finished() or req is result.chunked or not req.launched:
                continue
            req.launched -= 1
            if req.is_retracted:
                continue
            req.output_ids.append(1000 + len(req.output_ids))
            if len(req.output_ids) == req.sampling_params.max_new_tokens - (req.rid == self.short):
                req.finished_reason = SimpleNamespace(to_json=lambda: {"type": "length"})
        self.ipc_channels.send_to_detokenizer.send_output("payload")

    def is_disable_overlap_for_batch(self, batch: Any, last_batch: Any) -> bool:
        return self.never_overlaps_prefills and bool(batch and last_batch and batch.extend and last_batch.extend)

    def _apply_war_barrier(self) -> None:
        self._apply += 1

    def launch_batch_sample_if_needed(self, batch_result: Any, cur_batch: Any) -> None:
        assert (batch_result is None) == (cur_batch is None)

    def on_idle(self) -> None:
        self.idle += 1

    def release_host_resources(self) -> None:
        self.released = True


SERVER_ARGS = {
    "model_path", "skip_tokenizer_init", "trust_remote_code", "device", "dtype", "quantization", "tp_size",
    "context_length", "max_running_requests", "max_prefill_tokens", "chunked_prefill_size", "disable_radix_cache",
    "random_seed", "log_level", "cuda_graph_backend_decode", "cuda_graph_backend_prefill", "max_total_tokens",
    "mem_fraction_static", "disable_overlap_schedule", "watchdog_timeout",
}  # fmt: skip


class ServerArgs(SimpleNamespace):
    __struct_fields__ = tuple(sorted(SERVER_ARGS))
    base_gpu_id = 0

    def resolve_once(self) -> None:
        self.resolved = True

    def resolved_dict(self) -> dict[str, Any]:
        assert self.resolved
        return {"tp_size": 1, "attention_backend": "fa3"}


class SamplingParams(SimpleNamespace):
    def normalize(self, tokenizer: Any) -> None:
        assert (self.temperature, self.ignore_eos, tokenizer) == (0.0, True, None)


def modules(made: list[Scheduler], version: str = "0.5.23", **behaviour: Any) -> dict[str, ModuleType]:
    """`sglang` and what the adapter imports of it; schedulers that are made are put into `made`."""

    def scheduler(args: Any, ports: Any) -> Scheduler:
        made.append(Scheduler(args, ports, **behaviour))
        return made[-1]

    parts: dict[str, dict[str, Any]] = {
        "sglang": {"__version__": version},
        "sglang.srt": {},
        "sglang.srt.managers": {},
        "sglang.srt.managers.scheduler": {"Scheduler": scheduler, "DynamicGradMode": contextlib.nullcontext},
        "sglang.srt.managers.io_struct": {"TokenizedGenerateReqInput": SimpleNamespace},
        "sglang.srt.sampling": {},
        "sglang.srt.sampling.sampling_params": {"SamplingParams": SamplingParams},
        "sglang.srt.runtime_context": {
            "SpawnRanks": SimpleNamespace,
            "publish": lambda args, role, ranks: None,
            "spawn_world_rank": lambda args, tp_rank, pp_rank: 0,
        },
        "sglang.srt.server_args": {
            "ServerArgs": ServerArgs,
            "PortArgs": SimpleNamespace(init_new=lambda args: SimpleNamespace(nccl_port=1)),
        },
        "sglang.srt.utils": {"configure_logger": lambda args: None},
        "sglang.srt.distributed": {},
        "sglang.srt.distributed.parallel_state": {"abort_distributed_environment": lambda: None},
    }
    found = {name: ModuleType(name) for name in parts}
    for name, content in parts.items():
        found[name].__dict__.update(content)
    found["sglang.srt.managers"].__dict__["scheduler"] = found["sglang.srt.managers.scheduler"]
    return found
