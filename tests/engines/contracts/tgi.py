"""What the TGI adapter touches, in a table of signatures taken from its repository."""

from __future__ import annotations

from innerloop.engines.tgi.settings import RESERVED, SCHEDULER_LIMITS, native_arguments
from tests.engines.contracts.repository import PB2
from tests.engines.support.loads import make_load

REPOSITORY = "huggingface/text-generation-inference"
MODELS = "text_generation_server.models"
MODEL = ("batch_type", "dtype", "device", "world_size", "tokenizer", "model", "support_chunking")
ARGUMENTS = [name for name in {**native_arguments(make_load()), **RESERVED} if name not in SCHEDULER_LIMITS]

TOUCHES = [
    f"{MODELS}:get_model({', '.join(ARGUMENTS)})",
    *(f"{MODELS}.model:Model.{name}" for name in MODEL),
    f"{MODELS}.model:Model.generate_token(batch)",
    f"{MODELS}.model:Model.decode_token(all_input_ids, prefix_offset, read_offset, skip_special_tokens)",
    f"{MODELS}.causal_lm:CausalLM.generate_token(batch)",
    f"{MODELS}.causal_lm:CausalLM.quantize",
    f"{MODELS}.causal_lm:CausalLMBatch.from_pb(pb, tokenizer, dtype, device)",
    f"{MODELS}.causal_lm:CausalLMBatch.__len__()",
    f"{MODELS}.causal_lm:CausalLMBatch.filter(request_ids)",
    f"{MODELS}.causal_lm:CausalLMBatch.concatenate(batches)",
    f"{MODELS}.causal_lm:CausalLMBatch(requests, past_key_values)",
    f"{MODELS}.flash_causal_lm:FlashCausalLM.generate_token(batch)",
    f"{MODELS}.flash_causal_lm:FlashCausalLM.warmup(batch, max_input_tokens, max_total_tokens)",
    f"{MODELS}.flash_causal_lm:FlashCausalLM.kv_cache",
    f"{MODELS}.flash_causal_lm:FlashCausalLM.quantize",
    f"{MODELS}.flash_causal_lm:FlashCausalLMBatch.from_tokenized(pb, tokenizer, batch_tokenized_inputs, dtype, device)",
    f"{MODELS}.flash_causal_lm:FlashCausalLMBatch.__len__()",
    f"{MODELS}.flash_causal_lm:FlashCausalLMBatch.filter(request_ids)",
    f"{MODELS}.flash_causal_lm:FlashCausalLMBatch.concatenate(batches)",
    f"{MODELS}.flash_causal_lm:FlashCausalLMBatch(requests, num_blocks)",
    f"{MODELS}.flash_causal_lm:TGI_WIGGLE_ROOM",
    f"{MODELS}.flash_causal_lm:CUDA_GRAPHS",
    *(f"{MODELS}.globals:{name}" for name in ("ATTENTION", "BLOCK_SIZE", "PREFIX_CACHING", "PREFILL_CHUNKING")),
    f"{MODELS}.globals:set_adapter_to_index(adapter_to_index)",
    "text_generation_server.layers.gptq:create_exllama_buffers(max_total_tokens)",
    "text_generation_server.layers.gptq:set_device(device)",
    f"{MODELS}.types:Generation(request_id, tokens, generated_text)",
    f"{MODELS}.types:Tokens(token_ids)",
    f"{PB2}:Batch(id, requests, size)",
    f"{PB2}:Request(id, input_chunks, truncate, parameters, stopping_parameters, blocks, slots)",
    f"{PB2}:Input(chunks)",
    f"{PB2}:InputChunk(text)",
    f"{PB2}:NextTokenChooserParameters(temperature, top_k, top_p, typical_p, do_sample, repetition_penalty)",
    f"{PB2}:StoppingCriteriaParameters(max_new_tokens, ignore_eos_token)",
]

RENAMED = [  # in the table, and what is then said
    ('"max_input_tokens"', '"max_prompt_tokens"', "has no parameter max_input_tokens"),
    ('"speculate", "dtype"', '"speculation", "dtype"', "has no parameter speculate"),
    ('"batch_tokenized_inputs"', '"tokenized"', "has no parameter batch_tokenized_inputs"),
    ('"ignore_eos_token"', '"ignore_eos"', "has no parameter ignore_eos_token"),
    ('"set_adapter_to_index"', '"set_adapters"', "has no set_adapter_to_index"),
    ('"support_chunking": null', '"chunks": null', "has no support_chunking"),
    ('"past_key_values"', '"cache"', "has no parameter past_key_values"),
]
