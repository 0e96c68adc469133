"""Each fault does what it says; those that end the process, in a process of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from innerloop.contract import Nothing, Request, Session, StepReport
from tests.plugins.driving import make_load
from tests.plugins.scripted import adapter, faults
from tests.plugins.scripted.faults import CHILD_MARK, CHILDREN, KINDS
from tests.plugins.scripted.tokens import output_ids
from tests.waiting import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import sys
from innerloop.contract import Request
from tests.plugins.driving import make_load
from tests.plugins.scripted import adapter

load = make_load(engine_args=dict(pair.split("=") for pair in sys.argv[1:]))
load.engine_args["fault_step"] = 2
adapter.imports(load)
session = adapter.open(load)
print("opened", flush=True)
session.submit(session.prepare(Request(0, [1, 2, 3], 20)))
while session.has_work():
    session.step(None)
    print("step", flush=True)
print("closing", flush=True)
session.close()
print("closed", flush=True)
"""


def start(tmp_path: Path, **engine_args: str) -> tuple[subprocess.Popen[bytes], Path]:
    """An engine with a fault in a process of its own, and what it prints; a pipe would be held by its children."""
    said = tmp_path / "stdout"
    with said.open("wb") as out:
        pairs = [f"{name}={value}" for name, value in engine_args.items()]
        return subprocess.Popen([sys.executable, "-c", PROGRAM, *pairs], cwd=ROOT, stdout=out), said


def ended(tmp_path: Path, **engine_args: str) -> tuple[int, str]:
    process, said = start(tmp_path, **engine_args)
    return process.wait(PATIENCE_S), said.read_text()


@pytest.fixture
def children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """children(): the living children that a fault of this test has left behind; they are ended when the test is."""
    monkeypatch.setenv("INNERLOOP_TEST_MARK", str(tmp_path))  # other tests may run on this machine

    def find() -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter(["cmdline"]):
            if (process.info["cmdline"] or [""])[-1] == CHILD_MARK:
                with suppress(psutil.Error):  # it has just ended, as a zombie has, or is another user's
                    if process.environ().get("INNERLOOP_TEST_MARK") == str(tmp_path):
                        found.append(process)
        return found

    yield find
    for process in find():
        process.kill()


@pytest.mark.parametrize(("kind", "code"), [("segfault", -signal.SIGSEGV), ("kill", -signal.SIGKILL), ("exit", 0)])
def test_the_process_ends_after_so_many_steps(tmp_path, kind, code):
    assert ended(tmp_path, fault=kind) == (code, "opened\nstep\nstep\n")


def test_children_outlive_the_engine_that_killed_itself_and_no_polite_signal_ends_them(tmp_path, children):
    assert ended(tmp_path, fault="children_then_kill") == (-signal.SIGKILL, "opened\nstep\nstep\n")
    left = children()
    assert len(left) == CHILDREN
    for process in left:
        assert os.getsid(process.pid) == process.pid
        for number in faults.STOP_SIGNALS:
            process.send_signal(number)
    assert len(children()) == CHILDREN


def test_children_are_left_at_an_orderly_end(tmp_path, children):
    code, said = ended(tmp_path, fault="children")
    assert (code, said.splitlines()[-1]) == (0, "closed")
    assert len(children()) == CHILDREN


def until(process: subprocess.Popen[bytes], happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not happened():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)


def ignores(process: subprocess.Popen[bytes], number: int) -> bool:
    status = Path(f"/proc/{process.pid}/status").read_text().split()
    return bool(int(status[status.index("SigIgn:") + 1], 16) >> (number - 1) & 1)


@pytest.mark.parametrize(("kind", "words"), [("hang", "step\nstep\n"), ("close_hangs", "closing\n")])
def test_a_hang_lasts_until_it_is_ended(tmp_path, kind, words):
    process, said = start(tmp_path, fault=kind)
    try:
        until(process, lambda: words in said.read_text())
        process.terminate()
        assert process.wait(PATIENCE_S) == -signal.SIGTERM
        assert said.read_text().endswith(words)
    finally:
        process.kill()


def test_a_hang_can_ignore_every_signal_that_asks(tmp_path):
    process, said = start(tmp_path, fault="hang_ignoring_signals")
    try:
        until(process, lambda: all(ignores(process, number) for number in faults.STOP_SIGNALS))
        for number in faults.STOP_SIGNALS:
            process.send_signal(number)
        time.sleep(0.1)
        assert process.poll() is None
        process.kill()
        assert process.wait(PATIENCE_S) == -signal.SIGKILL
        assert said.read_text() == "opened\nstep\nstep\n"
    finally:
        process.kill()


def test_noise_goes_to_the_processs_own_output(tmp_path):
    process, said = start(tmp_path, fault="noise_on_stdout")
    assert process.wait(PATIENCE_S) == 0
    noise, opened, rest = said.read_bytes().partition(b"opened\n")
    assert opened
    assert len(noise) > 900_000
    assert b"\n" not in noise
    assert rest.endswith(b"closed\n")


# ---------------------------------------------------------------- in this process


def faulty(**engine_args: Any) -> Session:
    return adapter.open(make_load(engine_args={"step_us": 1, **engine_args}))


def reports(session: Session, requests: int = 2, output: int = 4) -> list[StepReport]:
    for request in range(requests):
        session.submit(session.prepare(Request(request, [request, 2, 3], output)))
    found = []
    while session.has_work():
        report = session.step(None)
        if isinstance(report, StepReport):
            found.append(report)
        if len(found) > 100:
            break
    return found


def changed(kind: str, step: int) -> tuple[list[StepReport], list[StepReport]]:
    """The reports of a faulty engine, and of one that is not."""
    return reports(faulty(fault=kind, fault_step=step)), reports(faulty())


@pytest.mark.parametrize(
    ("kind", "error", "words"),
    [
        ("raise", RuntimeError, "the scripted engine fails, as fault=raise asked"),
        ("raise_markup", RuntimeError, "not markup"),
        ("oom_host", MemoryError, None),
        ("oom_device", RuntimeError, "CUDA out of memory"),
    ],
)
def test_a_step_raises_after_so_many(kind, error, words):
    session = faulty(fault=kind, fault_step=3)
    session.submit(session.prepare(Request(0, [1, 2, 3], 9)))
    for _ in range(3):
        assert isinstance(session.step(None), StepReport)
    with pytest.raises(error, match=words):
        session.step(None)


def test_faults_can_happen_at_other_places():
    with pytest.raises(RuntimeError, match="fails"):
        adapter.imports(make_load(engine_args={"fault": "raise", "fault_at": "import"}))
    with pytest.raises(MemoryError):
        faulty(fault="oom_host", fault_at="load")
    session = faulty(fault="close_raises")
    assert len(reports(session)) == 4
    with pytest.raises(RuntimeError, match="fault=close_raises"):
        session.close()


def test_a_slow_load_takes_as_long_as_asked():
    begun = time.monotonic()
    faulty(fault="slow_load", fault_s=0.05)
    assert time.monotonic() >= begun + 0.05


def test_miscount_short_ends_a_request_a_token_early():
    found, right = changed("miscount_short", 1)
    assert [report.finished for report in found] == [report.finished for report in right] == [[], [], [], [0, 1]]
    assert [len(report.tokens) for report in found] == [2, 2, 2, 1]
    assert found[3].tokens == right[3].tokens[1:]


def test_miscount_long_gives_a_token_too_many():
    found, right = changed("miscount_long", 1)
    assert [len(ids) for report in found for request, ids in report.tokens if request == 0] == [1, 1, 1, 2]
    assert found[3].tokens[1:] == right[3].tokens[1:]


def test_a_wrong_token_is_one_token_of_one_request():
    found, right = changed("wrong_token", 2)
    differ = [
        (step, request)
        for step, (a, b) in enumerate(zip(found, right, strict=True))
        for (request, ids), (_, others) in zip(a.tokens, b.tokens, strict=True)
        if ids != others
    ]
    assert differ == [(2, 0)]


def test_an_unknown_id_and_a_duplicate_stand_in_one_report():
    found, _ = changed("unknown_id", 2)
    assert [[request for request, _ in report.tokens] for report in found][1:] == [[0, 1], [0, 1, 1_000_000], [0, 1]]
    found, _ = changed("duplicate_entry", 2)
    assert [[request for request, _ in report.tokens] for report in found][1:] == [[0, 1], [0, 1, 0], [0, 1]]


def test_a_field_is_left_out_that_was_not_declared():
    found, _ = changed("undeclared", 2)
    assert [report.kv_usage is None for report in found] == [False, False, True, False]
    assert "kv_usage" not in faulty(fault="undeclared").info.unreported


def test_a_phase_can_be_longer_than_its_step():
    found, _ = changed("phases_exceed", 2)
    assert [(report.execute_ns or 0) > report.end_ns - report.start_ns for report in found] == [
        False,
        False,
        True,
        False,
    ]


def test_lost_work_is_denied():
    session = faulty(fault="lost_work", fault_step=2)
    session.submit(session.prepare(Request(0, [1, 2, 3], 9)))
    assert [isinstance(session.step(None), StepReport) for _ in range(2)] == [True, True]
    assert session.step(None) is Nothing.FLUSHED
    assert not session.has_work()


def test_a_surplus_comes_when_the_last_request_has_ended_and_once():
    session = faulty(fault="surplus")
    session.submit(session.prepare(Request(7, [1, 2, 3], 2)))
    given = [[(request, len(ids)) for request, ids in session.step(None).tokens] for _ in range(3)]  # type: ignore[union-attr]
    assert given == [[(7, 1)], [(7, 1)], [(7, 1)]]
    assert not session.has_work()


def test_every_request_is_given_the_first_ones_answer():
    session = faulty(fault="repeats_answer")
    answers: list[list[int]] = []
    for number, (prompt, count) in enumerate((([1, 2], 3), ([3, 4], 4))):
        session.submit(session.prepare(Request(number, prompt, count)))
        answers.append([ids[0] for _ in range(count) for _, ids in session.step(None).tokens])  # type: ignore[union-attr]
    assert answers[1][:3] == answers[0]
    vocabulary = make_load().config["vocab_size"]
    assert answers[0] == output_ids([1, 2], 3, vocabulary)
    assert answers[1][3:] == output_ids([3, 4], 4, vocabulary)[3:]


def test_a_fault_of_a_report_waits_for_one_that_it_can_happen_to():
    session = faulty(fault="wrong_token")
    session.submit(session.prepare(Request(0, list(range(600)), 2)))  # chunks of 256: the third brings a token
    right = adapter.open(make_load())
    right.submit(right.prepare(Request(0, list(range(600)), 2)))
    tokens = [[session.step(None).tokens, right.step(None).tokens] for _ in range(4)]  # type: ignore[union-attr]
    assert [a != b for a, b in tokens] == [False, False, True, False]


@pytest.mark.parametrize("how", [{"observed": True}, {"pipeline": True}])
def test_faults_do_not_depend_on_how_the_engine_is_stepped(how):
    session = faulty(fault="miscount_short", **how)
    assert sum(len(ids) for report in reports(session) for _, ids in report.tokens) == 7
    session.close()


def test_every_fault_has_a_test():
    tests = Path(__file__).read_text()
    assert [kind for kind in KINDS if f'"{kind}"' not in tests] == []
