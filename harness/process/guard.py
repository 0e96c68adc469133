"""Stands between the harness and a worker, so that nothing of a run outlives either of them.

Run as a script of its own (`python -I -S guard.py CONTROL_FD GRACE_S -- COMMAND...`), standard library only. It is the
worker's parent and the adopter of every orphan below it (PR_SET_CHILD_SUBREAPER), it reads standard input, which the
harness holds open for as long as it lives, and it ends everything below it when the worker ends, when a byte arrives
or when the harness is gone, however it went; the worker's temporary files go too. The last line on the control channel
is its own: how the worker ended. What the worker printed is this process's output, a log.

It is two processes, since either may be killed: the first adopts and ends what the second leaves, and the second, which
hears of the first's end by a signal, kills the worker.
"""

import ctypes
import errno
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
POLL_S = 0.02
SETTLE_S = 0.5  # after a worker's orderly end
UNSTARTED = {errno.EAGAIN: "system_limit", errno.EMFILE: "system_limit", errno.ENOMEM: "out_of_memory_host"}  # causes
TRACKER_S = 2.5  # for a resource tracker that sleeps, once nothing else is left: what it waits for does not come
LONGEST_S = 30.0  # for one that computes
TEMPORARY = ".temporary"  # a folder that holds this file goes with the harness
TEMP = "INNERLOOP_TEMP"  # the variable that names the folder for the worker's temporary files
SHARED, LIBRARY = "/dev/shm", "__KMP_REGISTERED_LIB_"  # libiomp's file of a process: its pid and its user follow
TICK_S = 0.01  # the most by which a file's times, which the kernel takes at its ticks, are behind its clock
UNHEARD = 3  # the second process's exit code where nobody read its last word


def main() -> int:
    """The first process. Its exit code is 0 when nothing is left, whatever became of the second."""
    control_fd, grace_s, command = int(sys.argv[1]), float(sys.argv[2]), sys.argv[4:]
    begun_s, first, harness = time.time(), os.getpid(), os.getppid()
    temp = make_temp_folder()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)  # only the harness, or its end, stops a run
    signal.signal(signal.SIGCHLD, lambda *_: None)  # inherited as ignored, nobody could be waited for
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    prctl = ctypes.CDLL(None).prctl
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    try:
        second = os.fork()
    except OSError as error:
        return unstarted(control_fd, command[0], error)
    if second == 0:
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        return follow(command, control_fd, grace_s, first, lambda: clean(begun_s, temp))
    os.close(control_fd)
    code = os.waitstatus_to_exitcode(os.waitpid(second, 0)[1])
    if code not in (0, UNHEARD):
        clean(begun_s, temp)
    if code == UNHEARD or os.getppid() != harness:
        clean_log()
    return 0


def follow(command: list[str], control_fd: int, grace_s: float, first: int, clean_up: Callable[[], int]) -> int:
    """The second process: starts the worker, follows it to its end and ends what is below it. `first`: its parent's
    pid, as long as that lives."""
    wake, wakened = os.pipe()
    os.set_blocking(wakened, False)
    signal.set_wakeup_fd(wakened, warn_on_full_buffer=False)
    try:
        worker = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[control_fd], start_new_session=True)
    except OSError as error:
        return unstarted(control_fd, command[0], error)
    while worker.poll() is None:
        if os.getppid() != first:
            worker.kill()  # at once: told to end, it might report that as the run's failure
            worker.wait()
            break
        ready, _, _ = select.select([0, wake], [], [])
        if wake in ready:
            os.read(wake, 4096)
        if 0 in ready:
            os.read(0, 1)
            stop(worker, grace_s)
    code = worker.returncode
    if code == 0:
        settle(SETTLE_S)
    leftover = clean_up()
    if os.getppid() != first:  # the harness has seen that: it must not hear of a worker that was killed here
        clean_log()
        return 0
    return 0 if tell(control_fd, event="exit", code=code, leftover=leftover) else UNHEARD


def clean(begun_s: float, temp: str | None) -> int:
    """Leaves nothing of a worker; says how many processes had to be killed."""
    killed = sweep()
    unregister(begun_s)
    remove_folder(temp)
    remove_temporary()
    return killed


def unstarted(control_fd: int, program: str, error: OSError) -> int:
    said = f"{program} could not be started: {error.strerror}"
    tell(control_fd, event="error", cause=UNSTARTED.get(error.errno or 0, "file_error"), message=said, traceback=[])
    return 1


def tell(control_fd: int, **message: object) -> bool:
    """False: nobody is left to read it."""
    try:
        os.write(control_fd, (json.dumps({**message, "time_ns": time.monotonic_ns()}) + "\n").encode())
        return True
    except OSError:
        return False


def stop(worker: subprocess.Popen, grace_s: float) -> None:
    """SIGTERM to the worker's group, then SIGKILL to the worker after the grace time; a stopped process only feels the
    second. Whatever else is left is swept."""
    for send, number, patience_s in ((os.killpg, signal.SIGTERM, grace_s), (os.kill, signal.SIGKILL, 5.0)):
        try:
            send(worker.pid, number)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + patience_s
        while worker.poll() is None and time.monotonic() < deadline:
            time.sleep(POLL_S)


def settle(patience_s: float) -> None:
    """Waits a moment for what ends by itself once the worker has, such as multiprocessing's resource tracker."""
    deadline = time.monotonic() + patience_s
    while reap() and time.monotonic() < deadline:
        time.sleep(POLL_S)


def reap() -> bool:
    """Whether any process is left below this one; those that have ended are not from now on."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def sweep() -> int:
    """Kills and reaps every process that is still below this one, and says how many it had to kill.

    Orphans are handed to this process one generation at a time, so it goes on until there are none.
    """
    killed: set[int] = set()
    left = Left()
    while reap():
        due = left.due(descendants(os.getpid()))
        killed |= {pid for pid in due if lives(str(pid))}
        for pid in due:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(POLL_S)
    return len(killed)


class Left:
    """What is left of a worker. Multiprocessing's resource trackers come last, since what others had in shared memory
    they remove once those are gone: seconds, on a busy machine. They are killed only where they go on sleeping."""

    def __init__(self) -> None:
        self._alone_at = self._asleep_at = time.monotonic()

    def due(self, pids: set[int]) -> set[int]:
        """Which of those that are left are to be killed now."""
        now, others = time.monotonic(), {pid for pid in pids if not tracks(pid)}
        if others:
            self._alone_at = now
        if not all(sleeps(pid) for pid in pids):
            self._asleep_at = now
        over = now - max(self._alone_at, self._asleep_at) > TRACKER_S or now - self._alone_at > LONGEST_S
        return others or (pids if over else set())


def tracks(pid: int) -> bool:
    """Whether a process is a resource tracker, which ends by itself once nobody uses it; or may become one: a process
    has no command line in the midst of its exec, nor at its end."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            said = f.read()
    except OSError:
        return False
    return not said or b"multiprocessing.resource_tracker" in said


def unregister(since_s: float) -> None:
    """Removes what libiomp leaves in shared memory of a process that ended at once, as a worker does: the files of this
    user that are younger than `since_s` (Unix time) and whose process is gone."""
    try:
        names = os.listdir(SHARED)
    except OSError:
        return
    for name in names:
        pid, _, user = name.removeprefix(LIBRARY).partition("_")
        if name.startswith(LIBRARY) and pid.isdigit() and user == str(os.getuid()):
            path = os.path.join(SHARED, name)
            try:
                if os.stat(path).st_mtime >= since_s - TICK_S and not lives(pid):
                    os.unlink(path)
            except OSError:
                pass


def lives(pid: str) -> bool:
    """Whether a process is there, and not one that is ending and has given its memory back."""
    return about(pid)[20] != "0"


def sleeps(pid: int) -> bool:
    """Whether a process that lives waits, and not for a disk, or was stopped."""
    told = about(str(pid))
    return told[0] in "STt" and told[20] != "0"


def about(pid: str) -> list[str]:
    """What proc(5) calls stat, from its third field on: state, ppid, ..., vsize (the 21st); as of a dead process (X)
    where there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as f:
            return f.read().rpartition(b")")[2].decode().split()
    except OSError:
        return ["X", *["0"] * 20]


def make_temp_folder() -> str | None:
    """None: no own one was asked for, or could be made, as where the disk is full; the worker has the user's then.

    It is locked as long as this process lives (see temp_folder.remove_left)."""
    folder = os.environ.get(TEMP)
    if not folder:
        return None
    try:
        os.mkdir(folder, 0o700)
    except OSError:
        del os.environ[TEMP]  # what is there already is somebody else's
        return None
    try:
        fcntl.flock(os.open(folder, os.O_RDONLY | os.O_DIRECTORY), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        pass  # a file system without locks
    return folder


def remove_folder(folder: str | None) -> None:
    """Removes a folder with all that is in it, where there is one."""
    if folder and os.path.isdir(folder):
        import shutil

        shutil.rmtree(folder, ignore_errors=True)


def clean_log() -> None:
    """Takes credentials out of the log, as the harness does where it lives (see engine_log.py)."""
    sys.path.insert(0, os.path.abspath(os.path.join(__file__, *[".."] * 4)))
    try:
        from pathlib import Path

        from innerloop.harness.process.engine_log import blank_secrets

        blank_secrets(Path(os.readlink("/proc/self/fd/1")))
    except Exception:
        pass  # nobody is left to be told


def remove_temporary() -> None:
    """Removes the folder that this runs in, where it is a temporary one and the harness is gone, or has told this to
    stop: whoever made it cannot, or need not."""
    if select.select([0], [], [], 0)[0] and os.path.exists(TEMPORARY):
        remove_folder(os.getcwd())


def descendants(root: int) -> set[int]:
    """Every process below `root`, from /proc."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            children.setdefault(int(about(name)[1]), []).append(int(name))
    found, queue = set(), [root]
    while queue:
        below = children.get(queue.pop(), [])
        found.update(below)
        queue += below
    return found


if __name__ == "__main__":
    sys.exit(main())
