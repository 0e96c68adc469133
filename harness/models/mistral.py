"""Mistral 7B and its successors: Llama's tensors; the first version sees a window in every layer."""

from __future__ import annotations

from innerloop.harness.models import llama
from innerloop.harness.models.decoder import grouped
from innerloop.harness.models.family import Family
from innerloop.harness.models.stored import Attention, Config


def attention(config: Config) -> list[Attention]:
    return [grouped(config, config.get("sliding_window"))] * int(config["num_hidden_layers"])


MISTRAL = Family("mistral", ("MistralForCausalLM",), "mistral", llama.tensors, attention, {"sliding_window": None})
