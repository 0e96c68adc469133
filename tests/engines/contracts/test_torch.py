"""What the torch adapter touches, in the transformers that its locks pin and in the oldest one that it knows."""

from __future__ import annotations

import pytest

from innerloop.engines.support.versions import is_known
from innerloop.engines.torch import adapter
from innerloop.engines.torch.attention import WITHOUT_SDPA
from innerloop.harness.models.families import BY_ARCHITECTURE
from tests.engines.contracts.locked import locked_version
from tests.engines.contracts.source import missing
from tests.engines.contracts.wheels import source_of

BATCHING = "transformers.generation.continuous_batching"
MANAGER = f"{BATCHING}.continuous_api:ContinuousBatchingManager"
PROCESSOR = f"{BATCHING}.continuous_api:ContinuousBatchProcessor"
CONFIG = "transformers.generation.configuration_utils:ContinuousBatchingConfig"
LOCKS = ("torch-cpu.txt", "torch-cuda.txt")
OLDEST = "5.19.0"

TOUCHES = [
    "transformers:__version__",
    f"{CONFIG}(page_size, max_requests_per_batch, max_batch_tokens, allow_block_sharing, use_async_batching, seed,"
    " use_cuda_graph, num_blocks, max_memory_percent, max_queue_size, auto_switch_to_flash)",
    f"{CONFIG}.cuda_graph_booleans",
    "transformers.generation.configuration_utils:GenerationConfig",
    f"{BATCHING}.continuous_api:ContinuousMixin.init_continuous_batching(generation_config,"
    " continuous_batching_config)",
    f"{MANAGER}._create_batch_processor()",
    f"{MANAGER}.add_request(input_ids, request_id, max_new_tokens, streaming, eos_token_id)",
    f"{MANAGER}.stop(block, timeout, hard_stop)",
    *(f"{MANAGER}.{call}()" for call in ("warmup", "start", "is_running", "destroy")),
    *(
        f"{MANAGER}.{name}"
        for name in (
            "background_thread_status",
            "batch_processor",
            "continuous_batching_config",
            "input_queue",
            "model",
            "output_router",
        )
    ),
    f"{PROCESSOR}.prepare_next_batch()",
    f"{PROCESSOR}._generation_step(model)",
    f"{PROCESSOR}.update_batch()",
    f"{PROCESSOR}.has_pending_requests()",
    *(f"{PROCESSOR}.{name}" for name in ("cache", "inputs_and_outputs", "offloading_manager", "scheduler")),
    f"{BATCHING}.cache:PagedAttentionCache.use_prefix_sharing",
    f"{BATCHING}.cache:PagedAttentionCache.compute_free_capacity()",
    f"{BATCHING}.cache:PagedAttentionCache.search_prefix_match(request_id, prompt_ids)",
    *(f"{BATCHING}.scheduler:Scheduler.{name}" for name in ("active_requests", "schedule_batch", "waiting_requests")),
    f"{BATCHING}.input_outputs:ContinuousBatchingIOs.retrieve_device_outputs",
    f"{BATCHING}.input_outputs:ContinuousBatchingIOs.requests_in_batch",
    f"{BATCHING}.requests:FutureRequestState(state, has_new_token, query_length)",
    f"{BATCHING}.requests:RequestState(request_id, generated_tokens, initial_tokens)",
    f"{BATCHING}.requests:RequestState.status",
    f"{BATCHING}.requests:RequestState._true_initial_tokens",
    f"{BATCHING}.requests:RequestStatus.FINISHED",
    f"{BATCHING}.requests:GenerationOutput(request_id, generated_tokens, error, status)",
]


@pytest.fixture(scope="module")
def source():
    return source_of("transformers", locked_version(LOCKS[0], "transformers"))


def test_the_locks_pin_one_version_and_the_adapter_knows_it():
    versions = {locked_version(lock, "transformers") for lock in LOCKS}
    assert len(versions) == 1
    assert is_known(versions.pop(), adapter.versions)


def test_everything_that_the_adapter_touches_is_there(source):
    assert missing(TOUCHES, source) == []


def test_it_has_every_architecture_that_innerloop_knows(source):
    listed = (source.folder / "transformers/models/auto/modeling_auto.py").read_text()
    assert adapter.architectures("cpu") is None  # it takes what the engine loads
    assert [name for name in BY_ARCHITECTURE if f'"{name}"' not in listed] == []


def test_the_models_that_get_eager_attention_are_those_whose_classes_have_no_sdpa(source):
    models = source.folder / "transformers/models"
    without = [
        architecture
        for architecture, family in BY_ARCHITECTURE.items()
        for folder in [family.model_type.removesuffix("_text")]
        if "_supports_sdpa = False" in (models / folder / f"modeling_{folder}.py").read_text()
    ]
    assert sorted(without) == sorted(WITHOUT_SDPA)
    paged = (source.folder / "transformers/integrations/eager_paged.py").read_text()
    assert "module.sinks" in paged  # GPT-OSS's
    assert "softcap" not in paged  # Gemma 2's, which is therefore refused


def test_everything_is_there_in_the_oldest_version_that_the_adapter_knows():
    assert OLDEST.rpartition(".")[0] == adapter.versions[0]
    assert missing(TOUCHES, source_of("transformers", OLDEST)) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("generation/configuration_utils.py", "    max_batch_tokens: ", "    max_step_tokens: ", "max_batch_tokens"),
        ("generation/continuous_batching/requests.py", ", has_new_token: bool", ", is_new: bool", "has_new_token"),
    ],
)
def test_a_renamed_field_is_found_out(source, changed, file, old, new, words):
    reasons = missing(TOUCHES, changed(source, f"transformers/{file}", old, new))
    assert any(f"has no parameter {words}" in reason for reason in reasons), reasons
