"""How the torch adapter counts a batch; that it steps the real engine rightly is shown by the real runs."""

from __future__ import annotations

from types import SimpleNamespace

from innerloop.engines.torch.phases import make_up


def scheduled(positions, *, prompt, output=0, before_reset=None, last=True):
    """A request of a batch: `before_reset` prompt tokens it had when it was first thrown out, None if it never was."""
    state = SimpleNamespace(
        generated_tokens=[1] * output, initial_tokens=[0] * prompt, _true_initial_tokens=before_reset or 0
    )
    return SimpleNamespace(query_length=positions, state=state, has_new_token=last)


def test_a_prompt_is_prefill_whole_or_in_parts():
    assert make_up([scheduled(10, prompt=10), scheduled(4, prompt=20, last=False)]) == (14, 0)


def test_a_request_with_output_decodes_one_position():
    assert make_up([scheduled(1, prompt=10, output=3), scheduled(1, prompt=5, output=1)]) == (0, 2)


def test_what_was_thrown_out_is_prefilled_again_but_for_its_newest_token():
    again = scheduled(14, prompt=14, before_reset=10)  # 10 of the prompt and 4 tokens of output
    assert make_up([again]) == (13, 1)
    assert make_up([scheduled(6, prompt=14, before_reset=10, last=False)]) == (6, 0)


def test_a_request_thrown_out_before_it_had_output_is_only_prefilled():
    assert make_up([scheduled(10, prompt=10, before_reset=10)]) == (10, 0)
