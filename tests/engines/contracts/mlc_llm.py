"""What the MLC-LLM adapter touches, in a table of signatures taken from its repository."""

from __future__ import annotations

from innerloop.engines.mlc_llm.convert import TEMPLATE
from innerloop.engines.mlc_llm.settings import (
    AWQ,
    AWQ_MODELS,
    LEARNED_POSITIONS,
    MODELS,
    NO_GRAPHS,
    NOT_ENGINE_CONFIG,
    QUANTIZATION,
    RESERVED,
    native_arguments,
    preparation,
)
from tests.engines.support.loads import make_load

REPOSITORY = "mlc-ai/mlc-llm"
ENGINE = "mlc_llm.serve.sync_engine:SyncMLCEngine"
FLAGS = "mlc_llm.interface.compiler_flags"

LOADS = [make_load(kv_cache_tokens=9), make_load(kv_memory_fraction=0.9)]
GIVEN = {name for load in LOADS for name in native_arguments(load)} - set(NOT_ENGINE_CONFIG)
FIELDS = sorted(GIVEN | (RESERVED.keys() - {"quantization", "seed"}))  # which are no fields of it
OVERRIDES = preparation(LOADS[0])[1].inputs.keys() - {"device", "opt"}

TOUCHES = [
    "mlc_llm:__version__",
    f"{ENGINE}(model, device, model_lib, mode, engine_config, request_stream_callback)",
    f"{ENGINE}.create_request(request_id, inputs, generation_config)",
    f"{ENGINE}.add_request(request)",
    f"{ENGINE}.step()",
    f"{ENGINE}.reset()",
    f"{ENGINE}.metrics()",
    f"{ENGINE}.model_config_dicts",
    "mlc_llm.protocol.mlc_chat_config:MLCChatConfig(quantization, sliding_window_size)",
    "mlc_llm.serve.engine_base:EngineMetrics.__getitem__(key)",
    "cpp.serve.metrics:engine_prefill_time_sum",
    "cpp.serve.metrics:engine_decode_time_sum",
    "cpp.serve.metrics:prompt_tokens_sum",
    "cpp.serve.metrics:prefill_tokens_sum",
    f"mlc_llm.serve.config:EngineConfig(verbose, {', '.join(FIELDS)})",
    "mlc_llm.serve.data:TokenData(token_ids)",
    "mlc_llm.serve.data:RequestStreamOutput.unpack()",
    "mlc_llm.serve.data:SingleRequestStreamOutput(delta_token_ids, finish_reason)",
    "mlc_llm.protocol.generation_config:GenerationConfig(temperature, top_p, presence_penalty, frequency_penalty, "
    "repetition_penalty, max_tokens, seed, debug_config)",
    "mlc_llm.protocol.debug_protocol:DebugConfig(ignore_eos)",
    "mlc_llm.__main__:subcommand",
    *(
        f"mlc_llm.cli.convert_weight:{option}"
        for option in ("config", "--quantization", "--device", "--source", "--source-format", "-o")
    ),
    *(f"mlc_llm.cli.gen_config:{option}" for option in ("config", "--quantization", "--conv-template", "-o")),
    *(f"mlc_llm.cli.compile:{option}" for option in ("model", "--device", "--opt", "--overrides", "-o")),
    *(f"mlc_llm.quantization.quantization:QUANTIZATION[{name}]" for name in (*QUANTIZATION.values(), AWQ)),
    *(f"mlc_llm.model.model:MODELS[{name}]" for name in dict.fromkeys((*AWQ_MODELS, *LEARNED_POSITIONS, *MODELS))),
    *(f"mlc_llm.model.{name}.{name}_loader:awq" for name in AWQ_MODELS),
    f"mlc_llm.interface.gen_config:CONV_TEMPLATES[{TEMPLATE}]",
    f"{FLAGS}:ModelConfigOverride({', '.join(sorted(OVERRIDES))})",
    *(f"{FLAGS}:OPT_FLAG_PRESET[{level}]" for level in ("O0", "O1", "O2", "O3")),
    f"{FLAGS}:OptimizationFlags({', '.join(flag.partition('=')[0] for flag in NO_GRAPHS.split(';'))})",
]

RENAMED = [  # in the table, and what is then said
    ('"request_stream_callback"', '"stream_callback"', "has no parameter request_stream_callback"),
    ('"max_total_sequence_length"', '"max_total_tokens"', "has no parameter max_total_sequence_length"),
    ('"--conv-template"', '"--template"', "has no --conv-template"),
    ('"engine_decode_time_sum"', '"decode_time_sum"', "has no engine_decode_time_sum"),
]
