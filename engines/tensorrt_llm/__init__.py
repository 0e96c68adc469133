"""TensorRT-LLM (PyTorch backend): `PyExecutor` in this process, whose loop is a thread of its own."""

from __future__ import annotations

from importlib import metadata
from typing import Any

from innerloop.engines.contract import Adapter, Load, Probe, Session
from innerloop.engines.http.session import UNREPORTED as HTTP_UNREPORTED
from innerloop.engines.support import versions
from innerloop.engines.support.device_memory import device_memory, free_share
from innerloop.engines.tensorrt_llm.http import open_http
from innerloop.engines.tensorrt_llm.session import LoopSession
from innerloop.engines.tensorrt_llm.settings import RESERVED, TITLE, VERSIONS, engine_info, native_arguments

SINGLE_PROCESS = "TLLM_WORKER_USE_SINGLE_PROCESS"  # set by the environment's recipe, read where LLM is made


class TensorRTLLMAdapter(Adapter):
    """Loads an `LLM` and observes the loop of its executor; requests skip LLM's input and output processing."""

    name = "tensorrt_llm"
    title = TITLE
    layers = ("core", "http")
    with_tokenizer = ("http",)
    versions = VERSIONS
    reserved = RESERVED
    # py_executor_creator.py; TLLM_CUDA_CHECK's "CUDA runtime error in CALL: out of memory"
    out_of_memory = ("executor creation failed due to insufficient gpu memory", ": out of memory")
    variables = ("TLLM_", "TRTLLM_", "TRT_LLM_", "FORCE_DETERMINISTIC")

    def arguments(self, load: Load, probe: Probe) -> dict[str, Any]:
        return native_arguments(load)

    def unreported(self, load: Load) -> tuple[str, ...]:
        return HTTP_UNREPORTED if load.layer == "http" else ()

    def imports(self, load: Load) -> None:
        if load.layer == "http":  # whose server imports it
            return
        import tensorrt_llm  # noqa: F401

    def open(self, load: Load) -> Session:
        if load.layer == "http":
            version = metadata.version("tensorrt-llm")
            with versions.explained(TITLE, version, VERSIONS):
                return open_http(load, version)
        import tensorrt_llm
        from tensorrt_llm.llmapi.llm_args import TorchLlmArgs

        version = tensorrt_llm.__version__
        with versions.explained(TITLE, version, VERSIONS):
            arguments = native_arguments(load)
            versions.check_known(arguments, TorchLlmArgs.model_fields, f"{TITLE} {version} has no argument")
            if load.settings["kv_memory_fraction"] is not None:
                arguments["kv_cache_config"]["free_gpu_memory_fraction"] = free_share(load, *device_memory())
            llm = tensorrt_llm.LLM(**arguments)
            try:
                info = engine_info(executor_of(llm), version, arguments, load)
                session = LoopSession(llm)
            except BaseException:
                llm.shutdown()
                raise
            session.info = info
            return session


adapter = TensorRTLLMAdapter()


def executor_of(llm: Any) -> Any:
    """The `PyExecutor` of an LLM; raises RuntimeError where that is in another process."""
    executor = getattr(llm._executor, "engine", None)
    if not hasattr(executor, "worker_thread"):
        raise RuntimeError(f"{TITLE} runs its executor in another process: {SINGLE_PROCESS}=1 is not set")
    return executor
