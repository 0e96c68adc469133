from __future__ import annotations

import numpy as np

from innerloop.engines.worker import trace
from innerloop.engines.worker.loop import drive
from innerloop.engines.worker.warmup import other_content, request_ids, warm_up
from tests.engines.support.driving import work
from tests.engines.worker.scripted import ScriptedEngine


def test_requests_are_numbered_on_over_the_rounds_and_the_window(tmp_path):
    engine, load = ScriptedEngine(), work([(3, 2), (4, 1)])
    told = warm_up(engine, load, tmp_path / "warmup", max_rounds=3, max_s=60.0, tolerance=1e-9, window=3)
    assert told["rounds"] == 3
    first_id = request_ids(load, 3)
    recorder = load.recorder(tmp_path / "window", first_id=first_id)
    drive(engine, load, recorder, first_id)
    recorder.close()
    assert [request for _, request in engine.submitted] == list(range(8))
    warm, window = (trace.records(tmp_path / name, "requests") for name in ("warmup", "window"))
    assert warm["prompt_tokens"].tolist() == [3, 4] * 3
    assert warm["state"].tolist() == [trace.STATES.index("finished")] * 6
    assert window["output_tokens"].tolist() == [2, 1]


def test_a_rounds_content_is_not_the_last_ones_and_has_its_lengths(tmp_path):
    load = work([(50, 2), (4, 1)])
    other = other_content(load, 1)
    assert not np.array_equal(other.prompt_tokens, load.prompt_tokens)
    assert sorted(other.prompt_tokens) == sorted(load.prompt_tokens)
    assert np.array_equal(other.prompt_offsets, load.prompt_offsets)
