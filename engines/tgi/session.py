"""A loaded model server of TGI, stepped under the batching that stands for its router's."""

from __future__ import annotations

import sys
import time
from typing import Any

from innerloop.engines.contract import Nothing, Request, Session, StepReport, UnsupportedSetting
from innerloop.engines.support.phases import Phases
from innerloop.engines.tgi.batches import (
    MAX_WAITING_TOKENS,
    WAITING_SERVED_RATIO,
    Asked,
    Pool,
    Prompts,
    Turns,
    asked,
    request_batch,
)


class ModelSession(Session):
    """Steps `Model.generate_token`.

    One step is one call: the prefill of requests that are admitted now, or one token for all that run. Which of both,
    `Turns` says as TGI's router would. A request is admitted when it has a place in the batch, its prompt fits into the
    step's tokens and its whole length fits into the KV cache, in the order of arrival. Prefilled requests join the
    others at the next decode. Nothing is ever preempted.
    """

    def __init__(
        self,
        model: Any,
        max_batch_size: int,
        max_tokens_per_step: int,
        kv_cache_tokens: int,
        waiting_served_ratio: float = WAITING_SERVED_RATIO,
        max_waiting_tokens: int = MAX_WAITING_TOKENS,
    ) -> None:
        """Takes charge of a loaded model; the others are what TGI's router would be told."""
        server_globals().set_adapter_to_index({})  # as serve() of server.py; thinning a paged batch looks adapters up
        self._model, self._paged = model, hasattr(model, "kv_cache")
        self._places, self._step_tokens = max_batch_size, max_tokens_per_step
        self._prompts = Prompts(model.tokenizer)
        self.pool = Pool(kv_cache_tokens, block_tokens() if self._paged else 1)
        self._turns = Turns(waiting_served_ratio, max_waiting_tokens)
        self._queue: list[Asked] = []
        self._left: dict[int, int] = {}  # tokens still to come of every request that runs
        self._batches = 0
        self._running: Any = None
        self._fresh: Any = None  # prefilled by the last step, not yet with the others
        # Text is not made: the step's tokens are ids.
        model.decode_token = lambda ids, prefix_offset=0, read_offset=0, skip_special_tokens=False: (
            "",
            prefix_offset,
            read_offset,
        )
        self._phases = Phases("schedule", "prepare", "execute", "update")
        self._scheduling = self._phases.timed("schedule", self._admit)
        self._preparing = self._phases.timed("prepare", self._batch)
        self._executing = self._phases.timed("execute", self._generate)
        self._updating = self._phases.timed("update", self._update)

    def prepare(self, request: Request) -> Asked:
        """The server's message for a request, which has to fit."""
        if not self.pool.ever_holds(request) or len(request.prompt) > self._step_tokens:
            raise UnsupportedSetting(
                f"a request of {len(request.prompt)} prompt and {request.output_tokens} output tokens can never be "
                f"admitted: max_tokens_per_step is {self._step_tokens}, the KV cache holds {self.pool.tokens} tokens"
            )
        return asked(request)

    def submit(self, prepared: Asked) -> None:
        self._queue.append(prepared)

    def step(self, until_ns: int | None) -> StepReport | Nothing:
        if not self.has_work():
            return Nothing.FLUSHED
        phases = self._phases
        start, ran = phases.begin(), len(self._left)
        admitted = self._scheduling()
        batch = self._preparing(admitted)
        size = len(batch)
        generations, after, (forward_ns, _) = self._executing(batch)
        tokens, finished = self._updating(generations, after, bool(admitted), ran)
        spent = phases.spent
        return StepReport(
            start_ns=start,
            end_ns=time.monotonic_ns(),
            tokens=tokens,
            finished=finished,
            prefill_tokens=sum(len(each.request.prompt) for each in admitted),
            decode_tokens=0 if admitted else size,
            cached_tokens=0,
            drafted_tokens=0,
            accepted_tokens=0,
            running=size,
            waiting=len(self._queue),
            preempted=0,
            kv_usage=self.pool.usage if self._paged else None,
            schedule_ns=spent["schedule"],
            prepare_ns=spent["prepare"],
            execute_ns=forward_ns,
            update_ns=max(spent["execute"] - forward_ns, 0) + spent["update"],
        )

    def has_work(self) -> bool:
        return bool(self._queue or self._left)

    def close(self) -> None:
        self._running = self._fresh = self._model = None
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()

    # ---------------------------------------------------------------- the scheduler that TGI has in its router

    def _admit(self) -> list[Asked]:
        """Takes requests from the queue's head for a prefill; none where those that run have their turn."""
        wanted = self._turns.wanted(len(self._left))
        if wanted is None or (count := self._fitting()) < wanted:
            return []
        admitted = self._queue[:count]
        del self._queue[:count]
        for each in admitted:
            self.pool.take(each.request)
            self._left[each.request.id] = each.request.output_tokens
        return admitted

    def _fitting(self) -> int:
        """How many of the queue places, the step's tokens and the KV cache allow."""
        count, tokens, blocks = 0, self._step_tokens, self.pool.free
        for each in self._queue[: self._places - len(self._left)]:
            tokens, blocks = tokens - len(each.request.prompt), blocks - self.pool.needs(each.request)
            if tokens < 0 or blocks < 0:
                break
            count += 1
        return count

    def _batch(self, admitted: list[Asked]) -> Any:
        return self._prefill_batch(admitted) if admitted else self._joined()

    def _generate(self, batch: Any) -> Any:
        return self._model.generate_token(batch)

    def _prefill_batch(self, admitted: list[Asked]) -> Any:
        """A batch of new requests. Its prompts are copies: the paged path appends its output to what it is given."""
        self._batches += 1
        pb = request_batch(self._batches, admitted, self.pool if self._paged else None)
        model = self._model
        prompts = [list(each.request.prompt) for each in admitted]
        if self._paged:
            return model.batch_type.from_tokenized(pb, model.tokenizer, prompts, model.dtype, model.device)
        return model.batch_type.from_pb(pb, self._prompts.holding(prompts), model.dtype, model.device)

    def _joined(self) -> Any:
        """What runs, with what the last prefill left."""
        batches = [batch for batch in (self._running, self._fresh) if batch is not None]
        joined = self._model.batch_type.concatenate(batches) if len(batches) > 1 else batches[0]
        self._running, self._fresh = joined, None
        if not self._paged:
            as_cache(joined)
        return joined

    def _update(
        self, generations: Any, after: Any, prefilled: bool, ran: int
    ) -> tuple[list[tuple[int, list[int]]], list[int]]:
        """Takes a step's tokens and keeps its batch without what has ended; who got which tokens, and who is finished.

        `ran` is how many requests ran before the step.
        """
        tokens, finished = [], []
        for generation in generations:
            request, ids = generation.request_id, [int(token) for token in generation.tokens.token_ids]
            tokens.append((request, ids))
            self._left[request] -= len(ids)
            if generation.generated_text is not None:
                finished.append(request)
                self.pool.give_back(request)
                del self._left[request]
        if after is not None:
            kept = [request.id for request in after.requests if request.id in self._left]
            after = after.filter(kept) if kept else None
        if prefilled and ran:
            self._fresh = after
        else:
            self._running = after
        if prefilled:
            self._turns.prefilled(ran)
        else:
            self._turns.decoded()
        return tokens, finished


def server_globals() -> Any:
    return sys.modules["text_generation_server.models.globals"]


def block_tokens() -> int:
    return server_globals().BLOCK_SIZE


def as_cache(batch: Any) -> None:
    """Batches joined or filtered hold lists of keys and values, which transformers no longer takes for a cache."""
    past = batch.past_key_values
    if isinstance(past, (list, tuple)):
        from transformers import DynamicCache

        batch.past_key_values = DynamicCache.from_legacy_cache(tuple(tuple(layer) for layer in past))
