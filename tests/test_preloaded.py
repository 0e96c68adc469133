"""A command of a preloaded process is what a new interpreter would have made of it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests import preloaded
from tests.preloaded import SERVERS, Command, run_in_new_interpreter
from tests.real import ROOT, variables

TELLS = """\
import os, sys, threading
print(sys.argv[1:], os.getcwd(), os.environ["TOLD"], __name__, threading.active_count(), os.getsid(0) == os.getpid())
print(sys.stdin.read() == "", sorted(os.listdir("/proc/self/fd")), sys.stdout.line_buffering, file=sys.stderr)
sys.exit(sys.argv[1])
"""
WAITS = "import sys, time\nprint('waits', flush=True)\ntime.sleep(600)\n"


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    """A folder with modules of its own, which a command that is started there finds."""
    (tmp_path / "tells.py").write_text(TELLS)
    (tmp_path / "waits.py").write_text(WAITS)
    return tmp_path


def test_streams_variables_folder_and_exit_code_are_those_of_a_new_interpreter(modules: Path) -> None:
    own = variables(TOLD="by the test")
    expected = run_in_new_interpreter("tells", "7", "b c", cwd=modules, env=own)
    found = preloaded.run("tells", "7", "b c", cwd=modules, env=own)
    assert (found.returncode, found.stdout, found.stderr) == (1, expected.stdout, expected.stderr)
    assert expected.stderr.endswith("\n7\n")
    own["TOLD"] = "another time"
    with Command("tells", "0", cwd=modules, env=own, start_new_session=True) as command:
        assert command.communicate()[0].endswith("another time __main__ 1 True\n")


@pytest.mark.parametrize(
    "words", [("harness.show", "no-such-run"), ("harness.run", "--help"), ("innerloop", "--version")]
)
def test_a_command_says_what_it_says_to_a_user(words: tuple[str, ...], tmp_path: Path) -> None:
    module, *rest = words
    expected, found = (
        start(module, *rest, cwd=tmp_path, env=variables()) for start in (run_in_new_interpreter, preloaded.run)
    )
    assert (found.returncode, found.stdout, found.stderr) == (expected.returncode, expected.stdout, expected.stderr)
    assert found.stdout or found.stderr


def test_a_signal_ends_it_and_several_go_on_at_once(modules: Path) -> None:
    going = [Command("waits", cwd=modules, env=variables()) for _ in range(3)]
    for one in going:
        assert one.stdout is not None
        assert one.stdout.readline() == "waits\n"
        assert one.poll() is None
    assert len({one.pid for one in going} | {os.getpid()}) == 4
    with pytest.raises(TimeoutError):
        going[0].wait(0.01)
    numbers = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
    for one, number in reversed([*zip(going, numbers, strict=True)]):
        one.send_signal(number)
        assert one.wait() == -number
        assert not Path(f"/proc/{one.pid}").exists()
    assert "KeyboardInterrupt" in going[2].communicate()[1]


def test_one_that_does_not_end_and_pipes_that_another_holds_are_late(modules: Path) -> None:
    with pytest.raises(TimeoutError):
        preloaded.run("waits", cwd=modules, env=variables(), timeout=0.2)
    (modules / "leaves.py").write_text(
        "import subprocess\nwith open('left', 'w') as file: file.write(str(subprocess.Popen(['sleep', '600']).pid))\n"
    )
    try:
        with pytest.raises(TimeoutError, match="when it had ended"):
            preloaded.run("leaves", cwd=modules, env=variables(), timeout=5)
    finally:
        os.kill(int((modules / "left").read_text()), signal.SIGKILL)


def test_an_interrupt_of_all_is_no_end_of_the_server_but_its_killing_is(modules: Path) -> None:
    own = variables(LD_LIBRARY_PATH=str(modules))
    going = Command("waits", cwd=modules, env=own)
    [(server, _)] = [SERVERS[values] for values in SERVERS if ("LD_LIBRARY_PATH", str(modules)) in values]
    server.send_signal(signal.SIGINT)
    assert preloaded.run("innerloop", "--version", cwd=modules, env=own).returncode == 0
    server.kill()
    with pytest.raises(RuntimeError, match="the server that started waits has ended"):
        going.wait()
    os.kill(going.pid, signal.SIGKILL)
    server.wait()  # its files are closed before it counts as ended
    assert preloaded.run("innerloop", "--version", cwd=modules, env=own).returncode == 0


def test_a_library_path_is_that_of_the_processs_start(tmp_path: Path) -> None:
    (tmp_path / "maps.py").write_text("from pathlib import Path; print(Path('/proc/self/environ').read_bytes())\n")
    own = variables(LD_LIBRARY_PATH=str(tmp_path))
    assert f"LD_LIBRARY_PATH={tmp_path}" in preloaded.run("maps", cwd=tmp_path, env=own).stdout
    assert str(ROOT) in preloaded.run("maps", cwd=tmp_path, env=own).stdout
