"""What SGLang's adapter imports, in place of the packages that are not here."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from tests.engines.sglang.double import Scheduler

SERVER_ARGS = {
    "model_path", "skip_tokenizer_init", "trust_remote_code", "device", "dtype", "quantization", "tp_size",
    "context_length", "max_running_requests", "max_prefill_tokens", "chunked_prefill_size", "disable_radix_cache",
    "random_seed", "log_level", "cuda_graph_backend_decode", "cuda_graph_backend_prefill", "max_total_tokens",
    "mem_fraction_static", "disable_overlap_schedule", "watchdog_timeout",
}  # fmt: skip


class ServerArgs(SimpleNamespace):
    __struct_fields__ = tuple(sorted(SERVER_ARGS))
    base_gpu_id = 0

    def resolve_once(self) -> None:
        self.resolved = True

    def resolved_dict(self) -> dict[str, Any]:
        assert self.resolved
        return {"tp_size": 1, "attention_backend": "fa3"}


class SamplingParams(SimpleNamespace):
    def normalize(self, tokenizer: Any) -> None:
        assert (self.temperature, self.ignore_eos, tokenizer) == (0.0, True, None)


def modules(
    made: list[Scheduler], version: str = "0.5.23", sockets: Path | None = None, **behaviour: Any
) -> dict[str, ModuleType]:
    """`sglang` and what the adapter imports of it; schedulers that are made are put into `made`, and their sockets into
    a folder."""

    def scheduler(args: Any, ports: Any) -> Scheduler:
        made.append(Scheduler(args, ports, **behaviour))
        return made[-1]

    def ports(args: Any) -> Any:
        if sockets is None:
            return SimpleNamespace(nccl_port=1)
        (sockets / "tokenizer").touch()
        return SimpleNamespace(nccl_port=1, tokenizer_ipc_name=f"ipc://{sockets / 'tokenizer'}")

    parts: dict[str, dict[str, Any]] = {
        "sglang": {"__version__": version},
        "sglang.srt": {},
        "sglang.srt.managers": {},
        "sglang.srt.managers.scheduler": {"Scheduler": scheduler, "DynamicGradMode": contextlib.nullcontext},
        "sglang.srt.managers.io_struct": {"TokenizedGenerateReqInput": SimpleNamespace},
        "sglang.srt.sampling": {},
        "sglang.srt.sampling.sampling_params": {"SamplingParams": SamplingParams},
        "sglang.srt.runtime_context": {
            "SpawnRanks": SimpleNamespace,
            "publish": lambda args, role, ranks: None,
            "spawn_world_rank": lambda args, tp_rank, pp_rank: 0,
        },
        "sglang.srt.server_args": {
            "ServerArgs": ServerArgs,
            "PortArgs": SimpleNamespace(init_new=ports),
        },
        "sglang.srt.utils": {"configure_logger": lambda args: None},
        "sglang.srt.distributed": {},
        "sglang.srt.distributed.parallel_state": {"abort_distributed_environment": lambda: None},
    }
    found = {name: ModuleType(name) for name in parts}
    for name, content in parts.items():
        found[name].__dict__.update(content)
    found["sglang.srt.managers"].__dict__["scheduler"] = found["sglang.srt.managers.scheduler"]
    return found
