"""A double of TGI's model server, as commit db931fcf has it below server/text_generation_server.

The first `generate_token` of a batch is its prefill, batches are joined by `concatenate` and thinned by `filter` (which
hands the batch itself back where all are kept), and a batch whose requests have all ended leaves none behind. What the
two paths do otherwise: models/causal_lm.py times its forward pass up to sampling and copies prompts into tensors;
models/flash_causal_lm.py times it with sampling, appends every output token to the prompts that it was handed, and
looks adapters up when it thins.
"""

from __future__ import annotations

import sys
import time
import types
from types import SimpleNamespace
from typing import Any

import pytest

SERVER = "text_generation_server"
GLOBALS = f"{SERVER}.models.globals"
BLOCK = 4
VERSION = "2.0.5.dev0"


class Batch:
    """`prefilled` is False until its first step; `given` counts tokens by request id."""

    past_key_values: Any = None

    def __init__(self, requests: list[Any], prompts: list[list[int]], prefilled: bool = False) -> None:
        self.requests, self.prompts, self.prefilled = requests, prompts, prefilled
        self.given = {request.id: 0 for request in requests}

    def __len__(self) -> int:
        return len(self.requests)

    @property
    def num_blocks(self) -> int:
        return sum(len(r.blocks) for r in self.requests)

    @classmethod
    def from_pb(cls, pb: Any, tokenizer: Any, dtype: Any, device: Any) -> Batch:
        return cls(list(pb.requests), [list(prompt) for prompt in tokenizer._prompts])

    @classmethod
    def concatenate(cls, batches: list[Batch]) -> Batch:
        assert all(batch.prefilled for batch in batches)
        joined = cls([r for b in batches for r in b.requests], [p for b in batches for p in b.prompts], True)
        joined.given = {name: count for batch in batches for name, count in batch.given.items()}
        return joined

    def filter(self, names: list[int]) -> Batch:
        assert names
        return self if len(names) == len(self) else self.thinned(names)

    def thinned(self, names: list[int]) -> Batch:
        kept = [(r, p) for r, p in zip(self.requests, self.prompts, strict=True) if r.id in names]
        thinned = type(self)([r for r, _ in kept], [p for _, p in kept], True)
        thinned.given = {name: self.given[name] for name in names}
        return thinned


class PagedBatch(Batch):
    @classmethod
    def from_tokenized(cls, pb: Any, tokenizer: Any, prompts: list[list[int]], dtype: Any, device: Any) -> PagedBatch:
        return cls(list(pb.requests), list(prompts))

    def thinned(self, names: list[int]) -> Batch:
        for _ in names:
            sys.modules[GLOBALS].get_adapter_to_index().get("", 0)
        return super().thinned(names)


class Model:
    """`cut`: tokens by which every output falls short; `fails_at`: the call that raises; `sampling_s`: its time."""

    batch_type: type[Batch] = Batch
    dtype, device, world_size, support_chunking = "torch.float32", "cpu", 1, False
    tokenizer = SimpleNamespace(pad_token_id=2, eos_token_id=2)
    quantize: str | None = None

    def __init__(self, cut: int = 0, fails_at: int = -1, sampling_s: float = 0.0) -> None:
        self.cut, self.fails_at, self.sampling_s, self.calls = cut, fails_at, sampling_s, 0
        self.blocks_held: list[list[list[int]]] = []
        self.model = Layer({"weight": Tensor(10)})

    def generate_token(self, batch: Batch) -> tuple[list[Any], Batch | None, tuple[int, int]]:
        self.calls += 1
        if self.calls == self.fails_at:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        begun = time.time_ns()
        time.sleep(0.001)
        forward_ns = self.sampled(begun)
        self.blocks_held.append([list(r.blocks) for r in batch.requests])
        batch.prefilled, generations = True, []
        for request in batch.requests:
            assert request.stopping_parameters.ignore_eos_token
            batch.given[request.id] += 1
            assert self.decode_token([1, 2], 3, 4) == ("", 3, 4)  # type: ignore[attr-defined]
            done = batch.given[request.id] >= request.stopping_parameters.max_new_tokens - self.cut
            text = SimpleNamespace(text="") if done else None
            tokens = SimpleNamespace(token_ids=[7])
            generations.append(SimpleNamespace(request_id=request.id, tokens=tokens, generated_text=text))
        self.written(batch)
        over = all(generation.generated_text is not None for generation in generations)
        return generations, None if over else batch, (forward_ns, 0)

    def sampled(self, begun_ns: int) -> int:
        """Samples, and says how long the forward pass took that began then."""
        forward_ns = time.time_ns() - begun_ns
        time.sleep(self.sampling_s)
        return forward_ns

    def written(self, batch: Batch) -> None:
        """Notes the step's tokens in the batch."""


class PagedModel(Model):
    batch_type = PagedBatch

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.kv_cache: list[Any] = []
        self.warmed: Any = None

    def warmup(self, batch: Batch, max_input_tokens: int, max_total_tokens: int) -> tuple[int, int, int]:
        self.warmed = (batch, max_input_tokens, max_total_tokens)
        return 640, max_input_tokens, max_total_tokens

    def sampled(self, begun_ns: int) -> int:
        time.sleep(self.sampling_s)
        return time.time_ns() - begun_ns

    def written(self, batch: Batch) -> None:
        for prompt in batch.prompts:
            prompt.append(7)


class Tensor:
    def __init__(self, elements: int) -> None:
        self._elements = elements

    def numel(self) -> int:
        return self._elements

    def element_size(self) -> int:
        return 2


class Layer:
    """A module: its parameters by name, the layers within it, and plain tensors as attributes."""

    def __init__(self, parameters: dict[str, Any], within: tuple[Layer, ...] = (), **plain: Any) -> None:
        self._parameters, self._within = parameters, within
        vars(self).update(plain)

    def modules(self) -> list[Layer]:
        return [self, *(module for layer in self._within for module in layer.modules())]

    def parameters(self) -> list[Any]:
        return [tensor for module in self.modules() for tensor in module._parameters.values()]


def install(monkeypatch: pytest.MonkeyPatch, model: Model | None = None) -> types.ModuleType:
    """Puts the server's modules in place; `get_model` gives `model`. Returns the module of globals."""
    names = ("", ".pb", ".pb.generate_pb2", ".models", ".models.globals")
    modules = [types.ModuleType(SERVER + name) for name in names]
    for module in modules:
        monkeypatch.setitem(sys.modules, module.__name__, module)
    _, pb, pb2, models, globals_ = modules
    vars(pb)["generate_pb2"] = pb2
    for message in (
        "Batch",
        "Request",
        "Input",
        "InputChunk",
        "NextTokenChooserParameters",
        "StoppingCriteriaParameters",
    ):
        vars(pb2)[message] = SimpleNamespace

    def get_model(
        model_id: Any,
        lora_adapter_ids: Any,
        revision: Any,
        sharded: Any,
        quantize: Any,
        speculate: Any,
        dtype: Any,
        kv_cache_dtype: Any,
        trust_remote_code: Any,
        max_input_tokens: Any,
    ) -> Model | None:
        return model

    vars(models)["get_model"] = get_model

    def set_adapter_to_index(adapter_to_index: dict[str, int]) -> None:
        vars(globals_)["ADAPTER_TO_INDEX"] = adapter_to_index

    vars(globals_).update(
        BLOCK_SIZE=BLOCK,
        ATTENTION="flashinfer",
        ADAPTER_TO_INDEX=None,
        set_adapter_to_index=set_adapter_to_index,
        get_adapter_to_index=lambda: vars(globals_)["ADAPTER_TO_INDEX"],
    )
    monkeypatch.setattr("innerloop.engines.tgi.metadata.version", lambda name: VERSION)
    return globals_
