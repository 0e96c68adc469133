"""One engine's loop written by hand, for benchmarks/independent.py: nothing of innerloop is imported.

    ENGINE'S PYTHON benchmarks/by_hand.py vllm|torch RUN

Does the work of a stored run of layer core anew: the engine with the run's own arguments, its warm-up's requests until
three rounds are alike, then its requests, all due at once. Prints {"tokens", "seconds"} as JSON.
"""

import gc
import json
import sys
import time
from pathlib import Path

import numpy as np

ROUNDS, LIKE = 30, 0.05


def requests_of(path: Path) -> list[tuple[list[int], int]]:
    """(prompt's token ids, output tokens) of each request."""
    with np.load(path, allow_pickle=False) as work:
        tokens, offsets, outputs = (work[name].tolist() for name in ("prompt_tokens", "prompt_offsets", "output_lens"))
    return [(tokens[begin:end], output) for begin, end, output in zip(offsets, offsets[1:], outputs, strict=False)]


class Vllm:
    def __init__(self, native: dict) -> None:
        from vllm.engine.arg_utils import EngineArgs
        from vllm.sampling_params import SamplingParams
        from vllm.v1.engine import EngineCoreRequest
        from vllm.v1.engine.core import EngineCore
        from vllm.v1.executor.abstract import Executor

        config = EngineArgs(**native).create_engine_config()
        self.core = EngineCore(vllm_config=config, executor_class=Executor.get_class(config), log_stats=False)
        self.make, self.sampling, self.number = EngineCoreRequest, SamplingParams, 0

    def add(self, prompt: list[int], output: int) -> None:
        self.number += 1
        greedy = self.sampling(temperature=0.0, ignore_eos=True, max_tokens=output, detokenize=False)
        request = self.make(
            request_id=f"hand-{self.number}",
            prompt_token_ids=prompt,
            mm_features=None,
            sampling_params=greedy,
            pooling_params=None,
            arrival_time=time.time(),
            lora_request=None,
            cache_salt=None,
            data_parallel_rank=None,
        )
        self.core.add_request(*self.core.preprocess_add_request(request))

    def run(self) -> int:
        tokens = 0
        while self.core.scheduler.has_requests():
            outputs, executed = self.core.step_fn()
            self.core.post_step(model_executed=executed)
            tokens += sum(len(one.new_token_ids) for group in (outputs or {}).values() for one in group.outputs)
        return tokens


class Torch:
    def __init__(self, native: dict, checkpoint: str, dtype: str, seed: int) -> None:
        import torch
        from transformers import AutoModelForCausalLM, GenerationConfig
        from transformers.generation.configuration_utils import ContinuousBatchingConfig

        torch.manual_seed(seed)
        native = dict(native)
        attention = native.pop("attn_implementation")
        model = AutoModelForCausalLM.from_pretrained(
            checkpoint, dtype=getattr(torch, dtype), attn_implementation=attention, local_files_only=True
        )
        self.manager = model.init_continuous_batching(
            generation_config=GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0),
            continuous_batching_config=ContinuousBatchingConfig(**native),
        )
        self.manager.batch_processor = self.processor = self.manager._create_batch_processor()
        self.number = 0

    def add(self, prompt: list[int], output: int) -> None:
        self.number += 1
        self.manager.add_request(
            input_ids=prompt, request_id=f"hand-{self.number}", max_new_tokens=output, eos_token_id=-1, streaming=True
        )

    def run(self) -> int:
        tokens, queue = 0, self.manager.output_router.output_queue.queue
        while self.processor.prepare_next_batch():
            batch = self.processor.inputs_and_outputs.requests_in_batch
            before = sum(len(one.state.generated_tokens) for one in batch)
            self.processor._generation_step(self.manager.model)
            self.processor.update_batch()
            tokens += sum(len(one.state.generated_tokens) for one in batch) - before
            queue.clear()
        return tokens


def main() -> None:
    kind, folder = sys.argv[1], Path(sys.argv[2])
    result = json.loads((folder / "result.json").read_text())
    native, settings = result["engine"]["native"], result["spec"]["settings"]
    engine: Vllm | Torch
    if kind == "vllm":
        engine = Vllm(native)
    else:
        engine = Torch(native, result["checkpoint"]["path"], settings["dtype"], settings["seed"])
    warm, work = requests_of(folder / "warmup.npz"), requests_of(folder / "workload.npz")
    speeds: list[float] = []
    while len(speeds) < ROUNDS and not (len(speeds) >= 3 and max(speeds[-3:]) <= (1 + LIKE) * min(speeds[-3:])):
        tokens, seconds = timed(engine, warm)
        speeds.append(tokens / seconds)
    gc.collect()
    gc.freeze()
    tokens, seconds = timed(engine, work)
    assert tokens == sum(output for _, output in work), tokens
    print(json.dumps({"tokens": tokens, "seconds": seconds}))


def timed(engine: Vllm | Torch, work: list[tuple[list[int], int]]) -> tuple[int, float]:
    begin = time.monotonic_ns()
    for prompt, output in work:
        engine.add(prompt, output)
    tokens = engine.run()
    return tokens, (time.monotonic_ns() - begin) / 1e9


if __name__ == "__main__":
    main()
