"""Run by vLLM's own interpreter: the logarithm of each prompt token's probability, as JSON in the last line."""

from __future__ import annotations

import json
import sys


def main(checkpoint: str, dtype: str, prompts: list[list[int]]) -> None:
    from vllm import LLM, SamplingParams

    engine = LLM(
        checkpoint,
        dtype=dtype,
        skip_tokenizer_init=True,
        enforce_eager=True,
        max_model_len=256,
        max_num_seqs=8,
        kv_cache_memory_bytes=2**28,
    )
    asked = SamplingParams(temperature=0, max_tokens=1, ignore_eos=True, detokenize=False, prompt_logprobs=0)
    outputs = engine.generate([{"prompt_token_ids": prompt} for prompt in prompts], asked)
    found = []
    for output, prompt in zip(outputs, prompts, strict=True):
        steps = zip(output.prompt_logprobs[1:], prompt[1:], strict=True)
        found.append([step[token].logprob for step, token in steps])
    print("\n" + json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
