"""What to do about a run that failed, by the cause of its failure."""

from __future__ import annotations

ADVICE = {
    "engine_exception": "Read the traceback and the end of engine.log.",
    "out_of_memory_host": "Choose a smaller model, or a smaller kv_cache_tokens, or a machine with more memory.",
    "out_of_memory_device": "Lower kv_memory_fraction, max_batch_size or max_tokens_per_step, or use more devices.",
    "killed_by_signal": "If the kernel's log names the out-of-memory killer, choose a smaller model or KV cache.",
    "hang": "Read the end of engine.log; allow more with the hang limit if a step can take that long here.",
    "wrong_token_count": "The engine did not produce what was asked: report it with the run's folder.",
    "load_timeout": "Allow more with the load's time limit, and read the end of engine.log.",
    "install_failed": "Read the installer's words; check the network and the package index that pip is configured for.",
    "interrupted": None,
    "disk_full": "Free some disk space, or put the run elsewhere with --out.",
    "unsupported_setting": "Leave the setting to the engine, or choose an engine that has it.",
    "timeout": "Allow more with --timeout, or choose a smaller workload.",
    "no_tokens": "Read the end of engine.log: the engine ran and gave no token.",
}
