from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from innerloop.harness.checkpoints import Checkpoint, DiskFull, ensure_checkpoint, plan, writer
from innerloop.harness.checkpoints import cache as module
from innerloop.harness.checkpoints.__main__ import main
from innerloop.harness.checkpoints.weights import use_weights
from innerloop.harness.cli.errors import InnerloopError, Refused
from innerloop.harness.profiles import load_model
from innerloop.harness.profiles.models import ModelProfile
from tests.waiting import PATIENCE_S

pytestmark = pytest.mark.slow

SMALL = ["hidden_size=64", "num_hidden_layers=3", "intermediate_size=96", "vocab_size=300", "num_attention_heads=4"]
SMALL += ["num_key_value_heads=2", "head_dim=16"]
ROOT = Path(__file__).resolve().parents[3]


def small(*changes: str) -> ModelProfile:
    return load_model("llama-tiny", [*SMALL, *changes])


def contents(path: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in path.iterdir()}


def left_behind(folder: Path) -> list[str]:
    """What is in the cache besides locks."""
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def python(code: str, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    """A process that runs `code` with SMALL's model as `model`, the folder as `folder` and further arguments."""
    head = f"""
import sys, time
from pathlib import Path
from innerloop.harness.checkpoints import ensure_checkpoint
from innerloop.harness.profiles import load_model
folder = Path(sys.argv[1])
def small(*changes): return load_model("llama-tiny", {SMALL!r} + list(changes))
"""
    command = [sys.executable, "-c", head + code, *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, **options)


def test_a_checkpoint_holds_the_files_that_engines_look_for(tmp_path: Path) -> None:
    made = ensure_checkpoint(small(), "bfloat16", folder=tmp_path)
    assert made.path.name == f"llama-tiny-bfloat16-{made.digest[:12]}"
    assert {file.name for file in made.path.iterdir()} == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "checkpoint.json",
    }
    assert made.bytes == (made.path / "model.safetensors").stat().st_size
    assert (made.cached, made.synthetic) == (False, True)
    assert left_behind(tmp_path) == [made.path.name]


def test_many_shards_come_with_an_index_that_names_every_tensor(tmp_path: Path) -> None:
    made = ensure_checkpoint(small(), "float32", folder=tmp_path, shard_bytes=60_000)
    index = json.loads((made.path / "model.safetensors.index.json").read_bytes())
    tensors = plan(small(), "float32", 60_000)
    assert index["metadata"]["total_size"] == sum(tensor.bytes for tensor in tensors)
    assert set(index["weight_map"]) == {tensor.name for tensor in tensors}
    files = {file.name for file in made.path.glob("*.safetensors")}
    assert set(index["weight_map"].values()) == files
    assert len(files) == tensors[-1].shard > 2


def test_weights_are_the_same_whatever_the_shards(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    read: list[dict[str, bytes]] = []
    for limit in (60_000, 10**9):
        path = ensure_checkpoint(small(), "float32", folder=tmp_path, shard_bytes=limit).path
        arrays = {name: a for file in path.glob("*.safetensors") for name, a in load_file(file).items()}
        read.append({name: array.tobytes() for name, array in arrays.items()})
    assert read[0] == read[1]


def test_what_was_made_is_reused(tmp_path: Path) -> None:
    first = ensure_checkpoint(small(), "float16", folder=tmp_path)
    before = (first.path / "model.safetensors").stat()
    said: list[str] = []
    second = ensure_checkpoint(small(), "float16", say=said.append, folder=tmp_path)
    assert second.cached
    assert said == []
    assert (second.path, second.digest, second.bytes) == (first.path, first.digest, first.bytes)
    after = (first.path / "model.safetensors").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_checkpoint_in_a_folder_that_cannot_be_written_is_reused(tmp_path: Path) -> None:
    first = ensure_checkpoint(small(), "float16", folder=tmp_path)
    for lock in tmp_path.glob(".*.lock"):
        lock.unlink()
    tmp_path.chmod(0o555)
    try:
        assert ensure_checkpoint(small(), "float16", folder=tmp_path).path == first.path
        assert left_behind(tmp_path) == [first.path.name]
        assert not list(tmp_path.glob(".*.lock"))
    finally:
        tmp_path.chmod(0o755)


def test_everything_that_changes_the_content_changes_the_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = [
        ensure_checkpoint(small(), "float32", folder=tmp_path).digest,
        ensure_checkpoint(small(), "float16", folder=tmp_path).digest,
        ensure_checkpoint(small(), "float32", seed=1, folder=tmp_path).digest,
        ensure_checkpoint(small("num_hidden_layers=2"), "float32", folder=tmp_path).digest,
        ensure_checkpoint(small("rope_theta=10000"), "float32", folder=tmp_path).digest,
        ensure_checkpoint(small(), "float32", folder=tmp_path, shard_bytes=60_000).digest,
    ]
    monkeypatch.setattr(module, "WRITER_VERSION", 99)
    digests.append(ensure_checkpoint(small(), "float32", folder=tmp_path).digest)
    assert len(set(digests)) == len(digests) == len(left_behind(tmp_path))


def test_what_does_not_change_the_content_does_not_change_the_digest(tmp_path: Path) -> None:
    first = ensure_checkpoint(small(), "float32", folder=tmp_path)
    assert ensure_checkpoint(small("title=another"), "float32", folder=tmp_path).cached
    assert ensure_checkpoint(small("name=other"), "float32", folder=tmp_path).digest == first.digest


def test_a_name_never_leads_out_of_the_cache() -> None:
    assert module.plain("../../etc/x y") == "etc-x-y"
    assert module.plain("..") == "model"
    assert module.plain("llama3-8b") == "llama3-8b"


def cut_a_shard(path: Path) -> None:
    os.truncate(path / "model.safetensors", 1000)


def lose_the_tokenizer(path: Path) -> None:
    (path / "tokenizer.json").unlink()


def lose_the_record(path: Path) -> None:
    (path / "checkpoint.json").unlink()


def spoil_the_record(path: Path) -> None:
    (path / "checkpoint.json").write_text('{"digest": 1')


def empty_the_record(path: Path) -> None:
    (path / "checkpoint.json").write_text("[]")


def another_digest(path: Path) -> None:
    record = json.loads((path / "checkpoint.json").read_text())
    (path / "checkpoint.json").write_text(json.dumps(record | {"digest": "0"}))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut_a_shard, "model.safetensors has 1000 bytes instead of"),
        (lose_the_tokenizer, "tokenizer.json is missing"),
        (lose_the_record, "checkpoint.json is missing"),
        (spoil_the_record, "checkpoint.json cannot be read"),
        (empty_the_record, "checkpoint.json cannot be read"),
        (another_digest, "different recipe"),
    ],
)
def test_a_damaged_checkpoint_is_made_again(tmp_path: Path, damage: Any, words: str) -> None:
    first = ensure_checkpoint(small(), "float32", folder=tmp_path)
    before = contents(first.path)
    damage(first.path)
    said: list[str] = []
    again = ensure_checkpoint(small(), "float32", say=said.append, folder=tmp_path)
    assert not again.cached
    assert words in said[0]
    assert contents(first.path) == before
    assert left_behind(tmp_path) == [first.path.name]


def test_progress_is_said_in_bytes_and_ends_at_the_whole(tmp_path: Path) -> None:
    said: list[str] = []
    model = small("vocab_size=32768")
    ensure_checkpoint(model, "bfloat16", say=said.append, folder=tmp_path)
    size = sum(tensor.bytes for tensor in plan(model, "bfloat16")) / 2**20
    assert said[-1] == f"writing llama-tiny bfloat16: {size:.1f} of {size:.1f} MiB"


def test_progress_is_not_said_for_every_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    said: list[str] = []
    wrote = module.progress(said.append, "writing x bf16", 16 * 2**30)
    for _ in range(16 * 1024):
        wrote(2**20)
        now[0] += 0.001
    assert said[0] == "writing x bf16: 0.0 of 16.0 GiB"
    assert said[1] == "writing x bf16: 0.5 of 16.0 GiB"
    assert said[-1] == "writing x bf16: 16.0 of 16.0 GiB"
    assert 30 <= len(said) <= 35


def test_a_full_disk_is_foreseen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2**20 // 2))
    with pytest.raises(DiskFull, match=r"it needs 0\.9 MiB, .* has 0\.5 MiB left") as full:
        ensure_checkpoint(small("vocab_size=1024"), "float32", folder=tmp_path)
    assert full.value.exit_code == 2
    assert "INNERLOOP_HOME" in full.value.details[0]
    assert left_behind(tmp_path) == []


def test_exactly_enough_room_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = ensure_checkpoint(small(), "float32", folder=tmp_path / "a")
    needed = sum(json.loads((made.path / "checkpoint.json").read_text())["files"].values())
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=needed - 1))
    with pytest.raises(DiskFull):
        ensure_checkpoint(small(), "float32", folder=tmp_path / "b")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=needed))
    assert contents(ensure_checkpoint(small(), "float32", folder=tmp_path / "b").path) == contents(made.path)


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.ENOSPC, DiskFull, "the disk filled up"),
        (errno.EDQUOT, DiskFull, "the disk filled up"),
        (errno.EIO, Refused, "cannot be written"),
    ],
)
def test_trouble_while_writing_is_explained_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[InnerloopError], words: str
) -> None:
    write = writer.write_shard

    def failing(path: Path, *rest: Any) -> None:
        write(path, *rest)
        if path.name.startswith("model-00002"):
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(writer, "write_shard", failing)
    with pytest.raises(kind, match=words) as error:
        ensure_checkpoint(small(), "float32", folder=tmp_path, shard_bytes=60_000)
    assert type(error.value) is kind
    assert left_behind(tmp_path) == []


def test_the_systems_own_limit_on_file_size_is_explained(tmp_path: Path) -> None:
    code = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    ensure_checkpoint(small(), "float32", folder=folder)
except Exception as error:
    print(type(error).__name__, error)
"""
    out, _ = python(code, str(tmp_path)).communicate(timeout=PATIENCE_S)
    assert out.startswith("Refused ")
    assert "File too large" in out
    assert left_behind(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InnerloopError, match="file/cache"):
        ensure_checkpoint(small(), "float32", folder=tmp_path / "file" / "cache")


def test_an_interrupt_leaves_nothing_half_made(tmp_path: Path) -> None:
    def interrupt(text: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensure_checkpoint(small(), "float32", say=interrupt, folder=tmp_path)
    assert left_behind(tmp_path) == []
    assert not ensure_checkpoint(small(), "float32", folder=tmp_path).cached


def test_what_a_killed_process_left_is_cleaned_up(tmp_path: Path) -> None:
    code = """
def stall(text):
    print(text, flush=True)
    time.sleep(600)
ensure_checkpoint(small(*sys.argv[2:]), "float32", say=stall, folder=folder)
"""
    with python(code, str(tmp_path)) as same, python(code, str(tmp_path), "rope_theta=1234") as other:
        for process in (same, other):
            assert process.stdout is not None
            assert process.stdout.readline().startswith("writing llama-tiny float32")
        same.send_signal(signal.SIGKILL)
        other.send_signal(signal.SIGKILL)
    half_made = left_behind(tmp_path)
    assert len(half_made) == 2
    assert all(name.endswith(".partial") for name in half_made)
    made = ensure_checkpoint(small(), "float32", folder=tmp_path)
    assert not made.cached
    assert left_behind(tmp_path) == [made.path.name]


def test_what_a_living_process_is_writing_is_left_alone(tmp_path: Path) -> None:
    seen: list[list[str]] = []

    def meanwhile(text: str) -> None:
        if not seen:
            other = ensure_checkpoint(small("rope_theta=1234"), "float32", folder=tmp_path)
            seen.append([name for name in left_behind(tmp_path) if name != other.path.name])

    made = ensure_checkpoint(small(), "float32", say=meanwhile, folder=tmp_path)
    assert seen == [[f".{made.path.name}.partial"]]
    assert contents(made.path) == contents(ensure_checkpoint(small(), "float32", folder=tmp_path / "other").path)


def test_the_second_of_two_at_once_waits_and_reuses(tmp_path: Path) -> None:
    waiting = threading.Event()
    results: dict[str, Checkpoint] = {}
    said: list[str] = []

    def first_says(text: str) -> None:
        if not said:
            second.start()
            assert waiting.wait(PATIENCE_S)

    def second_says(text: str) -> None:
        said.append(text)
        waiting.set()

    def make(name: str, say: Any) -> None:
        results[name] = ensure_checkpoint(small(), "float32", say=say, folder=tmp_path)

    second = threading.Thread(target=make, args=("second", second_says))
    make("first", first_says)
    second.join(PATIENCE_S)
    assert said == [f"waiting for another process to write {results['first'].path.name}"]
    assert (results["first"].cached, results["second"].cached) == (False, True)
    assert left_behind(tmp_path) == [results["first"].path.name]


def test_of_four_processes_at_once_one_writes(tmp_path: Path) -> None:
    code = """
made = ensure_checkpoint(small("vocab_size=65536"), "float32", folder=folder)
print(made.cached, made.digest)
"""
    processes = [python(code, str(tmp_path)) for _ in range(4)]
    outputs = [process.communicate(timeout=PATIENCE_S)[0].split() for process in processes]
    assert sorted(output[0] for output in outputs) == ["False", "True", "True", "True"]
    assert len({output[1] for output in outputs}) == 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak from /proc")
def test_memory_stays_far_below_one_shard(tmp_path: Path) -> None:
    code = """
import innerloop.harness.checkpoints.writer
def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
innerloop.harness.checkpoints.writer.gaussian()
before = peak()
made = ensure_checkpoint(small("hidden_size=1024", "vocab_size=32768"), "float32", folder=folder)
print(made.bytes, peak() - before)
"""
    out, _ = python(code, str(tmp_path)).communicate(timeout=PATIENCE_S)
    shard, grown = map(int, out.split())
    assert shard > 256 * 2**20
    assert grown < shard / 3


def test_a_synthetic_folder_can_be_given_as_the_users_own(tmp_path: Path) -> None:
    made = ensure_checkpoint(small(), "float32", folder=tmp_path, shard_bytes=60_000)
    own = use_weights(made.path, small())
    assert (own.path, own.bytes, own.synthetic) == (made.path, made.bytes, False)


def test_a_weight_format_that_cannot_be_made_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="awq"):
        ensure_checkpoint(
            load_model("llama3-8b-awq", ["quantization.version=gemv"]), "float16", folder=tmp_path / "cache"
        )
    assert not (tmp_path / "cache").exists()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("INNERLOOP_HOME", str(tmp_path))
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    return folder


def test_plan_prints_the_files_and_the_exact_bytes(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "llama3-70b"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("model-00001-of-000")  # below the columns' names
    assert lines[-1] == "llama3-70b bfloat16: 723 tensors, 141107412992 bytes (131.4 GiB)"
    assert left_behind(cache) == []


def test_create_list_and_remove(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = ensure_checkpoint(small(), "float32", folder=cache)
    assert main(["list"]) == 0
    assert f"{made.path.name} " in (line := capsys.readouterr().out.splitlines()[1])
    assert line.endswith("complete")
    cut_a_shard(made.path)
    assert main(["list"]) == 0
    assert "damaged: model.safetensors has 1000 bytes" in capsys.readouterr().out
    assert main(["remove", made.path.name]) == 0
    assert left_behind(cache) == []


def test_create_says_where_it_is_and_whether_it_was_there(
    cache: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = tmp_path_factory.mktemp("profiles") / "mine.yaml"
    text = (ROOT / "profiles/models/llama-tiny.yaml").read_text().replace("vocab_size: 8192", "vocab_size: 300")
    profile.write_text(text)
    assert main(["create", str(profile), "--dtype", "bfloat16", "--seed", "7"]) == 0
    assert "created in" in (last := capsys.readouterr().out.splitlines()[-1])
    assert Path(last.split("  ")[0]).is_dir()
    assert main(["create", str(profile), "--dtype", "bfloat16", "--seed", "7"]) == 0
    assert "already existed" in capsys.readouterr().out


def test_wrong_names_are_refused_with_the_nearest(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = ensure_checkpoint(small(), "float32", folder=cache)
    assert main(["remove", made.path.name[:-1]]) == 2
    assert f"did you mean '{made.path.name}'" in capsys.readouterr().err
    assert main(["remove", ".."]) == 2
    assert main(["create", "lama3-8b"]) == 2
    assert "llama3-8b" in capsys.readouterr().err
    assert left_behind(cache) == [made.path.name]
