"""Traces of every format: read row by row, their mistakes named by line and field, their blocks the same everywhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from innerloop.harness.cli.errors import Refused
from innerloop.harness.profiles import WorkloadProfile, load_model, parse_seeds
from innerloop.harness.profiles.validation import validate
from innerloop.harness.workloads import Workload, build, check_context, longest_request, warmup

TINY = load_model("llama-tiny")
MS, S = 1_000_000, 1_000_000_000
MOONCAKE = """\
{"timestamp": 0, "input_length": 655, "output_length": 52, "hash_ids": [1, 2]}

{"timestamp": 1400, "input_length": 120, "output_length": 11, "hash_ids": [3]}
{"timestamp": 1500, "input_length": 600, "output_length": 26, "hash_ids": [1, 4]}
"""
AZURE = """\
TIMESTAMP,ContextTokens,GeneratedTokens
2026-01-01 18:15:46.6805900,374,44
2026-01-01 18:15:47.1805900,396,109
2026-01-01 18:15:48.0000000,0,7
"""
BURST = """\
Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,47,18,65,Conversation log
45,"ChatGPT",108,23,131,Conversation log
118,GPT-4,41,27,68,API log
120,GPT-4,30,0,30,API log
"""
SHARED = json.dumps(
    [
        {
            "id": "a",
            "conversations": [
                {"from": "human", "value": "x" * 40},
                {"from": "gpt", "value": "y" * 9},
                {"from": "human", "value": "z" * 4},
                {"from": "gpt", "value": "w" * 20},
                {"from": "human", "value": "nobody answered"},
            ],
        },
        {"id": "b", "conversations": []},
    ],
    indent=1,
)
OPENAI = """\
{"messages": [{"role": "user", "content": "12345678"}], "max_tokens": 9}
{"messages": [{"role": "system", "content": "1234"}, {"role": "user", "content": "123456789"}], "max_tokens": 3}
"""


def profile(path: Path, **load: Any) -> WorkloadProfile:
    return validate(WorkloadProfile, {"name": "t", "load": {"kind": "trace", "path": str(path), **load}}, "t")


def make(folder: Path, text: str, name: str = "trace", context: int = 4096, **load: Any) -> Workload:
    (folder / name).write_text(text)
    return build(profile(folder / name, **load), TINY, parse_seeds(1), context)


def refused(folder: Path, text: str, context: int = 4096, **load: Any) -> Refused:
    with pytest.raises(Refused) as found:
        make(folder, text, context=context, **load)
    return found.value


def lengths(work: Workload) -> list[tuple[int, int]]:
    return list(zip(work.prompt_lens.tolist(), work.output_lens.tolist(), strict=True))


def prompts(work: Workload) -> list[list[int]]:
    return [part.tolist() for part in np.split(work.prompt_tokens, work.prompt_offsets[1:-1])]


def test_mooncake_has_times_lengths_and_blocks_that_are_shared(tmp_path: Path) -> None:
    work = make(tmp_path, MOONCAKE)
    assert lengths(work) == [(655, 52), (120, 11), (600, 26)]
    assert work.due_ns.tolist() == [0, 1400 * MS, 1500 * MS]
    first, other, third = prompts(work)
    assert first[:512] == third[:512]
    assert first[512:600] != third[512:]
    assert other[:100] != first[:100]
    assert work.shared_lens is not None
    assert work.shared_lens.tolist() == [0, 0, 512]
    assert work.describe().shared_share == pytest.approx(512 / 1375)


def test_a_shorter_last_block_of_the_same_id_begins_the_longer_one(tmp_path: Path) -> None:
    rows = [(700, [1, 2]), (600, [1, 2]), (1024, [1, 2]), (700, [9, 2])]
    text = "".join(
        json.dumps({"timestamp": k, "input_length": n, "output_length": 1, "hash_ids": ids}) + "\n"
        for k, (n, ids) in enumerate(rows)
    )
    work = make(tmp_path, text)
    assert prompts(work)[1] == prompts(work)[0][:600]
    assert work.shared_lens is not None
    assert work.shared_lens.tolist() == [0, 600, 700, 0]  # block 2 behind another block is another prefix
    assert prompts(work)[3][512:] == prompts(work)[0][512:]


def test_ids_of_blocks_are_the_same_in_another_process_whatever_python_hashes(tmp_path: Path) -> None:
    work = make(tmp_path, MOONCAKE)
    code = (
        "import sys; from innerloop.harness.profiles import load_model, load_workload, parse_seeds;"
        "from innerloop.harness.workloads import build;"
        "print(build(load_workload(sys.argv[1]), load_model('llama-tiny'), parse_seeds(1), 4096).hash)"
    )
    (tmp_path / "t.yaml").write_text("name: t\nload: {kind: trace, path: trace}\n")
    for salt in ("1", "2"):
        command = [sys.executable, "-c", code, str(tmp_path / "t.yaml")]
        out = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": salt})
        assert out.stdout.strip() == work.hash


def test_azure_has_dates_and_a_row_without_a_prompt_is_left_out_and_counted(tmp_path: Path) -> None:
    work = make(tmp_path, AZURE)
    assert lengths(work) == [(374, 44), (396, 109)]
    assert work.due_ns.tolist() == [0, S // 2]
    assert work.replayed is not None
    assert (work.replayed.format, work.replayed.rows, work.replayed.empty) == ("azure", 3, 1)


def test_burstgpt_has_seconds_and_classes_where_asked(tmp_path: Path) -> None:
    work = make(tmp_path, BURST, columns={"label": "Model"}, time_scale=0.5)
    assert lengths(work) == [(47, 18), (108, 23), (41, 27)]
    assert work.due_ns.tolist() == [0, 20 * S, 113 * S // 2]
    assert [(one.name, one.requests) for one in work.describe().classes or ()] == [("ChatGPT", 2), ("GPT-4", 1)]


def test_sharegpt_conversations_are_sessions_of_estimated_lengths(tmp_path: Path) -> None:
    work = make(tmp_path, SHARED)
    assert work.history_lens is not None
    assert work.history_lens.tolist() == [0, 13]  # 40 / 4 and 9 / 4 rounded up
    assert lengths(work) == [(10, 3), (14, 5)]
    assert (work.due_ns.tolist(), work.next_request.tolist()) == ([0, -1], [1, -1])
    assert work.replayed is not None
    assert (work.sessions, work.replayed.estimated, work.replayed.empty) == (1, 4, 1)


def test_a_conversation_a_line_and_chat_messages_are_read_too(tmp_path: Path) -> None:
    lines = "\n".join(json.dumps(one) for one in json.loads(SHARED))
    assert lengths(make(tmp_path, lines)) == [(10, 3), (14, 5)]
    assert lengths(make(tmp_path, OPENAI)) == [(2, 9), (4, 3)]
    batch = "".join(json.dumps({"body": json.loads(line)}) + "\n" for line in OPENAI.splitlines())
    assert lengths(make(tmp_path, batch)) == [(2, 9), (4, 3)]


def test_own_columns_of_a_csv_and_of_json_lines(tmp_path: Path) -> None:
    columns = {"time": "t", "prompt": "p", "output": "o"}
    work = make(tmp_path, "t,p,o\n0.5,10,1\n2.5,20,2\n", columns=columns, time_unit="s")
    assert (lengths(work), work.due_ns.tolist()) == ([(10, 1), (20, 2)], [0, 2 * S])
    text = '{"t": 1, "p": 10, "o": 1}\n{"t": 3, "p": 20, "o": 2}\n'
    assert make(tmp_path, text, columns=columns, time_unit="us").due_ns.tolist() == [0, 2000]
    assert "p, o" in str(refused(tmp_path, "t,p,o\n1,2,3\n"))


def test_a_trace_of_sessions_chains_turns_by_their_thinking_time(tmp_path: Path) -> None:
    text = """\
{"session_id": "a", "timestamp": 100, "input_length": 50, "output_length": 5}
{"session_id": 7, "timestamp": 0, "input_length": 60, "output_length": 6}
{"session_id": "a", "delay": 250, "input_length": 10, "output_length": 2}
{"session_id": "a", "input_length": 20, "output_length": 3}
"""
    work = make(tmp_path, text)
    assert work.due_ns.tolist() == [0, 100 * MS, -1, -1]
    assert work.next_request.tolist() == [-1, 2, 3, -1]
    assert work.rest_ns.tolist() == [0, 0, 250 * MS, 0]
    assert lengths(work) == [(60, 6), (50, 5), (65, 2), (87, 3)]  # 50 + 5 + 10, then + 2 + 20
    assert work.sessions == 2


def test_rows_are_sent_in_order_of_time_and_those_out_of_order_are_counted(tmp_path: Path) -> None:
    rows = MOONCAKE.splitlines()
    work = make(tmp_path, "\n".join([rows[3], rows[0], rows[2]]))
    assert lengths(work) == [(655, 52), (120, 11), (600, 26)]
    assert work.replayed is not None
    assert work.replayed.out_of_order == 1


def test_a_part_of_a_trace_begins_at_once(tmp_path: Path) -> None:
    work = make(tmp_path, MOONCAKE, start_s=1, end_s=1.45)
    assert (lengths(work), work.due_ns.tolist()) == ([(120, 11)], [0])
    assert work.replayed is not None
    assert work.replayed.out_of_range == 2
    assert lengths(make(tmp_path, MOONCAKE, max_requests=2)) == [(655, 52), (120, 11)]


def test_scaled_blocks_are_shared_as_before(tmp_path: Path) -> None:
    work = make(tmp_path, MOONCAKE, length_scale=1 / 16)
    assert lengths(work) == [(41, 3), (8, 1), (38, 2)]
    assert work.shared_lens is not None
    assert work.shared_lens.tolist() == [0, 0, 32]


def test_requests_that_are_too_long_are_refused_scaled_cut_or_left_out(tmp_path: Path) -> None:
    error = refused(tmp_path, MOONCAKE, context=640)
    assert "line 1: prompt 655 + output 52 = 707 tokens, more than context_length (640); 1 of 3" in str(error)
    assert "load.fit: scale, cut or skip" in error.details[0]
    assert lengths(make(tmp_path, MOONCAKE, context=640, fit="cut")) == [(588, 52), (120, 11), (600, 26)]
    assert lengths(make(tmp_path, MOONCAKE, context=640, fit="skip")) == [(120, 11), (600, 26)]
    scaled = make(tmp_path, MOONCAKE, context=640, fit="scale")
    assert (scaled.prompt_lens + scaled.output_lens).max() <= 640
    assert scaled.replayed is not None
    assert scaled.replayed.length_scale == pytest.approx(640 / 707, rel=0.01)
    assert longest_request(profile(tmp_path / "trace", fit="cut"), context_length=640) == (600, 52)
    with pytest.raises(Refused):
        check_context(profile(tmp_path / "trace"), 640)
    short = refused(tmp_path, MOONCAKE, context=100, fit="skip")
    assert "all requests have more than context_length (100) tokens; the shortest, line 3, has 131" in str(short)


def test_a_session_that_is_too_long_ends_early_or_is_left_out(tmp_path: Path) -> None:
    row = '{"session_id": "%s", "input_length": %d, "output_length": 5}\n'
    text = row % ("a", 50) + row % ("a", 50) + row % ("a", 50) + row % ("b", 20)
    assert lengths(make(tmp_path, text, context=120, fit="cut")) == [(50, 5), (105, 5), (20, 5)]
    assert lengths(make(tmp_path, text, context=120, fit="skip")) == [(20, 5)]
    assert "line 3: the session has more turns than fit" in str(refused(tmp_path, text, context=5, fit="scale"))


def test_the_warmup_has_lengths_from_all_over_the_trace(tmp_path: Path) -> None:
    work = make(tmp_path, MOONCAKE)
    warm = warmup(profile(tmp_path / "trace"), TINY, parse_seeds(1), 8, window=work)
    assert warm.prompt_lens.tolist() == [655, 120, 600]
    assert warm.output_lens.tolist() == [32, 11, 26]
    assert not np.array_equal(warm.prompt_tokens, work.prompt_tokens)


GOOD = '{"timestamp": 0, "input_length": 5, "output_length": 1, "hash_ids": [1]}\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        (GOOD + "{", "line 2 is not JSON"),
        (GOOD + "[1]\n", "line 2: the row is not a JSON object"),
        (GOOD + GOOD.replace("5", "-5"), "line 2: input_length is -5; it must be a whole number from 0"),
        (GOOD + GOOD.replace("5", "true"), "line 2: input_length is True"),
        (GOOD + GOOD.replace('"output_length": 1, ', ""), "line 2: output_length is missing"),
        (GOOD + GOOD.replace('"timestamp": 0', '"timestamp": "soon"'), "line 2: timestamp is 'soon'"),
        (GOOD + GOOD.replace('"timestamp": 0', '"timestamp": 1e300'), "line 2: timestamp is 1e+300"),
        (GOOD + GOOD.replace('"timestamp": 0, ', ""), "line 2: timestamp is missing"),
        (GOOD + GOOD.replace("[1]", "[1, 2]"), "line 2: hash_ids has 2 ids, but input_length 5 has 1 blocks of 512"),
        (GOOD + GOOD.replace("5", "513"), "line 2: hash_ids has 1 ids, but input_length 513 has 2 blocks of 512"),
        (GOOD + GOOD.replace("[1]", "[-1]"), "line 2: hash_ids has -1"),
        (GOOD + GOOD.replace("[1]", '"1"'), "line 2: hash_ids is '1'; it must be a list"),
        (AZURE + "2026-13-01 00:00:00,1,1\n", "line 5: TIMESTAMP is '2026-13-01 00:00:00', which is not a date"),
        (AZURE + "2026-01-01 00:00:00,x,1\n", "line 5: ContextTokens is 'x'"),
        (AZURE + "2026-01-01 00:00:00\n", "line 5: ContextTokens is missing"),
        ("word\n", "not in a recognised format"),
        ('[{"conversations": 3}]', "line 1: conversations is not a list"),
        ('[{"conversations": [{"from": "gpt"}]}]', "line 1: value is missing or not a string"),
        ("[\n1 2]", "line 2: the element is not a JSON object"),
        ('{"timestamp": 0, "input_length": 0, "output_length": 1}\n', "has no requests: 1 have no tokens"),
        ('{"messages": [{"role": "user"}], "max_tokens": 1}\n', "line 1: messages has a message without content"),
    ],
)
def test_a_row_that_is_wrong_is_named_by_line_and_field(tmp_path: Path, text: str, said: str) -> None:
    error = refused(tmp_path, text)
    assert said in str(error)
    assert str(tmp_path / "trace") in str(error)


def test_every_bad_row_is_named_up_to_ten(tmp_path: Path) -> None:
    error = refused(tmp_path, GOOD + (GOOD.replace("5", "-1") + GOOD) * 12)
    assert "line 2: input_length is -1" in str(error)
    assert [line.partition(":")[0] for line in error.details] == [f"line {2 * k}" for k in range(2, 11)]


def test_bytes_that_are_no_text_are_refused_by_line(tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(GOOD.encode() + b"\xff\n")
    with pytest.raises(Refused, match="line 2 is not UTF-8"):
        build(profile(tmp_path / "t"), TINY, parse_seeds(1), 4096)


def test_numbers_without_a_unit_are_refused(tmp_path: Path) -> None:
    columns = {"time": "t", "prompt": "p", "output": "o"}
    assert "load.time_unit" in str(refused(tmp_path, "t,p,o\n1,2,3\n", columns=columns))


def test_more_tokens_than_can_be_prepared_are_refused_while_reading(tmp_path: Path) -> None:
    row = '{"timestamp": 0, "input_length": 1000000, "output_length": 1}\n'
    assert "prompt tokens by line 2048" in str(refused(tmp_path, row * 2050, context=1 << 24))


def test_a_list_of_conversations_is_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("innerloop.harness.workloads.traces.records.READ_BYTES", 7)
    assert lengths(make(tmp_path, SHARED)) == [(10, 3), (14, 5)]
