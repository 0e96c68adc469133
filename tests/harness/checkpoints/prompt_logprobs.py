"""Run by vLLM's own interpreter: the logarithm of each prompt token's probability, as JSON in the last line.

    prompt_logprobs.py FOLDER[:FOLDER ...] DTYPE PROMPTS

With several folders a list of what is printed for one.
"""

from __future__ import annotations

import gc
import json
import os
import sys


def logprobs(checkpoint: str, dtype: str, prompts: list[list[int]]) -> list[list[float]]:
    from vllm import LLM, SamplingParams

    engine = LLM(
        checkpoint,
        dtype=dtype,
        skip_tokenizer_init=True,
        enforce_eager=True,
        max_model_len=256,
        max_num_seqs=8,
        kv_cache_memory_bytes=2**28,
        attention_backend="CPU_MLA" if dtype == "float32" else None,  # see innerloop.engines.vllm.cpu.latent_attention
    )
    asked = SamplingParams(temperature=0, max_tokens=1, ignore_eos=True, detokenize=False, prompt_logprobs=0)
    outputs = engine.generate([{"prompt_token_ids": prompt} for prompt in prompts], asked)
    found = []
    for output, prompt in zip(outputs, prompts, strict=True):
        steps = zip(output.prompt_logprobs[1:], prompt[1:], strict=True)
        found.append([step[token].logprob for step, token in steps])
    del engine
    gc.collect()
    gc.freeze()  # what is left are mostly modules; the next load would look at them several times
    return found


def main(folders: list[str], dtype: str, prompts: list[list[int]]) -> None:
    found = [logprobs(folder, dtype, prompts) for folder in folders]
    print("\n" + json.dumps(found[0] if len(folders) == 1 else found))


if __name__ == "__main__":
    main(sys.argv[1].split(os.pathsep), sys.argv[2], json.loads(sys.argv[3]))
