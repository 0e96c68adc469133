"""What a double of TensorRT-LLM's `PyExecutor` is asked and answers: requests, results, and the worker between."""

from __future__ import annotations

import sys
import types
from types import SimpleNamespace
from typing import Any

import pytest


class Result:
    def __init__(self, ids: list[int], is_final: bool) -> None:
        self._serialized, self.is_final = [ids], is_final

    def deserialize(self) -> None:
        self.output_token_ids = self._serialized


class Response:
    def __init__(self, client_id: int, result: Result | None, error_msg: str | None = None) -> None:
        self.client_id, self.result, self.error_msg = client_id, result, error_msg

    def has_error(self) -> bool:
        return self.error_msg is not None


class LlmRequest:
    def __init__(self, name: int, asked: Any, cut: int) -> None:
        self.py_request_id, self.py_client_id = name, asked.id
        self.orig_prompt_len, self.streaming = len(asked.prompt_token_ids), asked.streaming
        self.context = self.orig_prompt_len  # positions to compute before the next token
        self.context_current_position = 0
        self.context_chunk_size, self.is_last_context_chunk = 0, False
        self.launched = self.given = 0  # tokens whose batch was launched, and those that came back
        self.untold: list[int] = []  # what no response held yet
        self.limit, self.canceled = asked.sampling_params.max_tokens - cut, False

    @property
    def max_beam_num_tokens(self) -> int:
        return self.orig_prompt_len + self.given

    @property
    def is_finished(self) -> bool:
        return self.canceled or self.given >= self.limit


class Worker:
    """Numbers its requests by itself: executor_request_queue.py begins at `max_batch_size`."""

    def __init__(self, engine: Any) -> None:
        self.engine, self.next_request_id = engine, engine.max_batch_size

    def _enqueue_request(self, request: Any) -> int:
        assert request.id is not None
        number, self.next_request_id = self.next_request_id, self.next_request_id + 1
        self.engine.requests.put(LlmRequest(number, request, self.engine.cut))
        return number


class GenerationRequest:
    def __init__(self, prompt_token_ids: list[int], sampling_params: Any, streaming: bool = False) -> None:
        assert sampling_params.ignore_eos
        self.prompt_token_ids, self.sampling_params, self.streaming = prompt_token_ids, sampling_params, streaming
        self.id: int | None = None

    def set_id(self, name: int) -> None:
        assert self.id is None
        self.id = name


def llm(executor: Any) -> Any:
    """An LLM that runs its executor in this process."""
    return SimpleNamespace(_executor=Worker(executor), shutdown=executor.shutdown)


def install(monkeypatch: pytest.MonkeyPatch) -> dict[str, types.ModuleType]:
    """Puts the engine's modules in place, and returns them by what follows the package's name."""
    names = ("", ".executor", ".executor.request", ".llmapi", ".llmapi.llm_args", ".sampling_params")
    modules = {name: types.ModuleType(f"tensorrt_llm{name}") for name in names}
    for module in modules.values():
        monkeypatch.setitem(sys.modules, module.__name__, module)
    vars(modules[""])["__version__"] = "1.2.1"
    vars(modules[".executor.request"])["GenerationRequest"] = GenerationRequest
    vars(modules[".sampling_params"])["SamplingParams"] = SimpleNamespace
    return modules
