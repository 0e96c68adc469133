from __future__ import annotations

from types import SimpleNamespace

import pytest

from innerloop.engines.contract import UnsupportedSetting
from innerloop.engines.torch.attention import MASKED, NO_CUDNN, configure_sdpa, refuse_wide_mask


@pytest.mark.parametrize(
    ("device", "implementation", "notes", "switched"),
    [
        ("cuda", "sdpa", (MASKED, NO_CUDNN), [False]),
        ("cpu", "sdpa", (MASKED,), []),
        ("cuda", "flash_attention_2", (), []),
    ],
)
def test_cudnn_is_switched_off_where_it_would_plan_in_every_step(device, implementation, notes, switched):
    asked: list[bool] = []
    torch = SimpleNamespace(backends=SimpleNamespace(cuda=SimpleNamespace(enable_cudnn_sdp=asked.append)))
    assert configure_sdpa(torch, device, implementation) == notes
    assert asked == switched


def test_a_mask_that_an_older_torch_reads_wrongly_is_refused_with_what_fits():
    with pytest.raises(UnsupportedSetting, match="more than 516096 KV cache tokens"):
        refuse_wide_mask("2.11.0+cu130", 8192, 516_097)
    refuse_wide_mask("2.11.0+cu130", 8192, 516_096)
    refuse_wide_mask("2.13.0", 8192, 10**6)
    refuse_wide_mask("2.14.0a0", 8192, 10**6)
