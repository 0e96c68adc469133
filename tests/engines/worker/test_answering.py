"""A child process that answers a job with one event."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
from innerloop.engines.worker.answering import answer

def work(job, control):
    control.send("begun")
    return {"twice": 2 * job["number"]}

answer(sys.argv[1], "1", work)
"""


def told(folder: Path, job: object) -> tuple[int, list[dict[str, object]]]:
    path = folder / "job.json"
    path.write_text(json.dumps(job))
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(path)], capture_output=True, text=True, check=False)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def test_a_job_is_answered_with_a_result(tmp_path: Path) -> None:
    code, events = told(tmp_path, {"number": 4})
    assert (code, [event["event"] for event in events]) == (0, ["started", "begun", "result"])
    assert events[-1]["twice"] == 8


def test_what_fails_is_told_and_the_exit_code_is_1(tmp_path: Path) -> None:
    code, events = told(tmp_path, {})
    assert (code, [event["event"] for event in events]) == (1, ["started", "begun", "error"])
    assert "number" in str(events[-1]["message"])
