"""Keys of a configuration that families compute with are of their kind, or refused."""

from __future__ import annotations

import pytest

from innerloop.harness.cli.errors import Refused
from innerloop.harness.models.fields import wrong_fields
from innerloop.harness.profiles import load_model, names


@pytest.mark.parametrize(
    ("model", "override", "message"),
    [
        ("qwen3-moe-tiny", "config.num_experts=null", "num_experts or num_local_experts is missing"),
        ("qwen3-moe-tiny", "config.num_local_experts=x", "config.num_local_experts is 'x'; it must be a whole number"),
        (
            "qwen3-moe-tiny",
            "config.mlp_only_layers=2",
            "config.mlp_only_layers is 2; it must be a list of whole numbers",
        ),
        (
            "qwen3-moe-tiny",
            "config.decoder_sparse_step=0",
            "config.decoder_sparse_step is 0; it must be a whole number",
        ),
        ("deepseek-v3-tiny", "config.first_k_dense_replace=0o17", "config.first_k_dense_replace is '0o17'; it must be"),
        (
            "deepseek-v3-tiny",
            "config.n_shared_experts=true",
            "config.n_shared_experts is True; it must be a whole number",
        ),
        ("gemma2-tiny", "config.attn_logit_softcapping=x", "config.attn_logit_softcapping is 'x'; it must be a number"),
        ("gemma3-tiny", "config.sliding_window=[1]", "config.sliding_window is [1]; it must be a whole number"),
        ("gpt-oss-tiny", "config.layer_types=full", "config.layer_types is 'full'; it must be a list of names"),
    ],
)
def test_a_key_of_another_kind_is_refused(model: str, override: str, message: str) -> None:
    with pytest.raises(Refused) as refused:
        load_model(model, [override])
    assert message in str(refused.value)


@pytest.mark.parametrize("name", names("models"))
def test_published_configurations_have_none(name: str) -> None:
    assert list(wrong_fields(load_model(name).config)) == []
