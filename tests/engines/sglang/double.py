"""A double of SGLang 0.5.23's `Scheduler`: prefill before decode, results one pass late with overlap.

As managers/scheduler.py: a batch's tokens become known when its result is processed, its requests take part in the
next batch before that, a retracted request is queued again (from behind the prefill that was tried first, one at least
stays, and a token of its that is in flight is dropped), and what is ended early is told to the tokenizer. As
`ScheduleBatch.prepare_for_extend`: a prompt's cache hits are counted when it is first scheduled, until it is retracted.
As `_GenerationStreamAccumulator.accept` and its caller: a request that streams is sent each of its tokens in the pass
that processes it, another one only every FORCE_STREAM_INTERVAL tokens, and each one its end, once.
"""

from __future__ import annotations

import contextlib
from array import array
from collections import deque
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

FORCE_STREAM_INTERVAL = 50


@dataclass(eq=False)
class Req:
    rid: str
    origin_input_ids: array[int]
    sampling_params: Any
    stream: bool
    output_ids: array[int] = field(default_factory=lambda: array("q"))
    computed: int = 0
    cached_tokens: int = 0
    is_retracted: bool = False
    retracted_stain: bool = False
    launched: int = 0  # tokens that batches in flight will bring
    finished_reason: Any = None
    finished_output: bool = False
    send_token_offset: int = 0

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
    aborts: str | None = None  # the request that is ended at its first token
    shared: int = 0  # positions that every prompt but the first finds in the radix cache
    no_room: bool = False  # for the KV cache
    lacks: str = ""  # a part that this version does not have

    def __post_init__(self) -> None:
        if self.no_room:
            raise RuntimeError("Not enough memory. Please try to increase --mem-fraction-static.")
        self.enable_overlap = not getattr(self.args, "disable_overlap_schedule", False)
        self.enable_skip_finishing_decode = False
        self.waiting_queue: list[Req] = []
        self.running_batch = ScheduleBatch([], False)
        self.last_batch: ScheduleBatch | None = None
        self.result_queue: deque[Any] = deque()
        self.ipc_channels = SimpleNamespace(send_to_tokenizer=Sender(), send_to_detokenizer=Sender())
        usage = SimpleNamespace(get_kv_token_stats=lambda: (10, 0.125))
        self.pool_stats_observer = SimpleNamespace(get_pool_stats=lambda: usage)
        self.batches, self.idle, self.released, self.flushed = 0, 0, False, 0
        self.holds_prefix = False
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
        if self.lacks:
            delattr(self, self.lacks)

    def run_event_loop(self) -> None:
        self.prepared += 1

    def process_input_requests(self, requests: list[Any]) -> None:
        for r in requests:
            if r.rid == self.refuses:
                self.ipc_channels.send_to_tokenizer.send_output("AbortReq(too long)", r)
            else:
                self._add_request_to_queue(Req(r.rid, r.input_ids, r.sampling_params, r.stream))

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
                lost.computed, lost.is_retracted, lost.retracted_stain = 0, True, True
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
            if not req.computed and self.holds_prefix:
                req.computed = self.shared
                req.cached_tokens += 0 if req.retracted_stain else self.shared
            self.holds_prefix = True
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
            if req.rid == self.aborts:
                req.finished_reason = SimpleNamespace(to_json=lambda: {"type": "abort", "message": "NaN in the logits"})
            elif len(req.output_ids) == req.sampling_params.max_new_tokens - (req.rid == self.short):
                req.finished_reason = SimpleNamespace(to_json=lambda: {"type": "length"})
        self._stream_output(batch.reqs, result.chunked)

    def _stream_output(self, reqs: list[Req], skip_req: Req | None) -> None:
        sent = SimpleNamespace(rids=[], output_ids=[], finished_reasons=[])
        for req in reqs:
            if req is skip_req or (req.finished() and req.finished_output):
                continue
            if not req.finished() and not req.stream and len(req.output_ids) % FORCE_STREAM_INTERVAL:
                continue
            req.finished_output = req.finished()
            sent.rids.append(req.rid)
            sent.output_ids.append(req.output_ids[req.send_token_offset :])
            req.send_token_offset = len(req.output_ids)
            sent.finished_reasons.append(req.finished_reason.to_json() if req.finished_reason else None)
        if sent.rids:
            self.ipc_channels.send_to_detokenizer.send_output(sent)

    def is_disable_overlap_for_batch(self, batch: Any, last_batch: Any) -> bool:
        return self.never_overlaps_prefills and bool(batch and last_batch and batch.extend and last_batch.extend)

    def _apply_war_barrier(self) -> None:
        self._apply += 1

    def launch_batch_sample_if_needed(self, batch_result: Any, cur_batch: Any) -> None:
        assert (batch_result is None) == (cur_batch is None)

    def on_idle(self) -> None:
        self.idle += 1

    def flush_cache(self, empty_cache: bool = True) -> bool:
        assert not empty_cache, "the device's allocator would begin anew"
        idle = not (self.running_batch.reqs or self.last_batch or self.waiting_queue or self.result_queue)
        self.flushed += idle
        self.holds_prefix &= not idle
        return idle

    def release_host_resources(self) -> None:
        self.released = True
