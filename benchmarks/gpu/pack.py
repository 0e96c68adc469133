"""innerloop itself for a machine that reaches no package index: a folder of wheels, or one cut to what it uses.

    python -m benchmarks.gpu.pack OUT                     wheels and their hashes, for pip install --no-index
    python -m benchmarks.gpu.pack OUT --cut --has numpy   also OUT/harness: one .tar.xz without what is never loaded

There, of the first:   pip install --no-index --find-links OUT/wheels --no-deps --require-hashes -r OUT/requirements.txt
of the second:         mkdir SITE; cat OUT/harness/part-* | tar -xJ -C SITE; export PYTHONPATH=SITE

It needs a network, pip, and a checkout as the working folder. The target's Python and C library are options.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import json
import lzma
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGES = ("innerloop", "engines", "harness", "profiles")
MIB = 1 << 20
TIMEOUT_S = 900
FILTERS = [{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 64 * MIB}]
# What innerloop never loads: of pyarrow it writes and reads Parquet files on a local disk; uv is of use with an index.
DROP = {
    "uv": ["*"],
    "pyarrow": [
        "pyarrow/libarrow_flight*", "pyarrow/libarrow_s3*", "pyarrow/libarrow_python.so", "pyarrow/libarrow_*.so.*.*.*",
        "pyarrow/_flight*", "pyarrow/_s3fs*", "pyarrow/_gcsfs*", "pyarrow/_azurefs*", "pyarrow/_hdfs*", "pyarrow/_orc*",
        "pyarrow/_json*", "pyarrow/_csv*", "pyarrow/_substrait*", "pyarrow/_dataset*", "pyarrow/_acero*",
        "pyarrow/_feather*", "pyarrow/_pyarrow_cpp_tests*", "pyarrow/include/*", "pyarrow/src/*", "pyarrow/tests/*",
    ],
    "*": ["*.pyx", "*.pxd", "*.pxi", "*.pyi", "*/tests/*"],
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--python", default="3.12", help="the target's; default: 3.12")
    parser.add_argument("--glibc", default="2.28", help="the target's; default: 2.28, the oldest that pyarrow takes")
    parser.add_argument("--has", action="append", default=[], help="a package that is there (many times); with --cut")
    parser.add_argument("--cut", action="store_true", help="also write OUT/harness")
    given = parser.parse_args()
    wheels = given.out / "wheels"
    shutil.rmtree(wheels, ignore_errors=True)
    wheels.mkdir(parents=True)
    fetch(wheels, given.python, given.glibc)
    found = sorted(wheels.glob("*.whl"))
    (given.out / "requirements.txt").write_text("".join(map(pin, found)))
    print(f"{wheels}: {len(found)} wheels, {sum(path.stat().st_size for path in found) / MIB:.1f} MiB")
    if given.cut:
        kept = [path for path in found if distribution(path) not in {normal(name) for name in given.has}]
        size, packed = cut(kept, given.out / "harness", given.python)
        print(f"{given.out / 'harness'}: {len(kept)} packages, {size / MIB:.1f} MiB in {packed / MIB:.1f} MiB")


def fetch(wheels: Path, python: str, glibc: str) -> None:
    """innerloop's wheel and those of everything that it depends on, for the target."""
    build = Path(shutil.copytree(CHECKOUT, wheels.parent / "source", dirs_exist_ok=True, ignore=only_packages))
    try:
        pip("wheel", "--no-deps", "--wheel-dir", str(wheels), str(build))
    finally:
        shutil.rmtree(build)
    [own] = wheels.glob("*.whl")
    with zipfile.ZipFile(own) as wheel:
        files = [path for name in PACKAGES[1:] for path in (CHECKOUT / name).rglob("*.py")]
        sources = {f"innerloop/{path.relative_to(CHECKOUT)}" for path in files}
        if lost := sources - set(wheel.namelist()):
            sys.exit(f"innerloop's wheel lacks {', '.join(sorted(lost))}: setup.py does not name their package")
    platforms = [f"manylinux_2_{minor}_x86_64" for minor in range(int(glibc.removeprefix("2.")), 16, -1)]
    target = ["--only-binary", ":all:", "--implementation", "cp", "--python-version", python]
    target += [part for platform in (*platforms, "manylinux2014_x86_64") for part in ("--platform", platform)]
    pip("download", "--dest", str(wheels), *target, str(own))


def only_packages(folder: str, names: list[str]) -> list[str]:
    """What `copytree` leaves out: all but what a wheel is built from."""
    if Path(folder) != CHECKOUT:
        return [name for name in names if name == "__pycache__"]
    return [name for name in names if name not in (*PACKAGES, "setup.py", "pyproject.toml", "README.md")]


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True, timeout=TIMEOUT_S)


def pin(wheel: Path) -> str:
    """A line of requirements.txt that only this very file satisfies."""
    name, version = wheel.name.split("-")[:2]
    return f"{normal(name)}=={version} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def distribution(wheel: Path) -> str:
    return normal(wheel.name.split("-")[0])


def cut(wheels: Iterable[Path], out: Path, python: str) -> tuple[int, int]:
    """Writes `out`/part-000, a .tar.xz of the wheels' files as they would be installed, and its manifest.json.

    Returns the bytes of the files and of the part.
    """
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    part, total = out / "part-000", 0
    with lzma.open(part, "wb", filters=FILTERS) as stream, tarfile.open(fileobj=stream, mode="w|") as tar:
        for wheel in wheels:
            patterns = [*DROP["*"], *DROP.get(distribution(wheel), ())]
            with zipfile.ZipFile(wheel) as archive:
                for member in sorted(archive.infolist(), key=lambda one: Path(one.filename).suffix):
                    name = place(member.filename)
                    if member.is_dir() or name is None or any(fnmatch.fnmatchcase(name, p) for p in patterns):
                        continue
                    info = tarfile.TarInfo(name)
                    info.size, info.mode = member.file_size, 0o755 if name.startswith("bin/") else 0o644
                    with archive.open(member) as file:
                        tar.addfile(info, file)
                    total += member.file_size
    content = part.read_bytes()
    parts = [{"file": part.name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}]
    manifest = {"name": "harness", "python": python, "parts": parts, "unpacked_bytes": total, "environment": {}}
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    return total, len(content)


def place(member: str) -> str | None:
    """Where a wheel's file goes below the folder, as `pip install --target` puts it; None for headers and the like."""
    data = re.match(r"[^/]+\.data/([^/]+)/(.*)", member)
    if data is None:
        return member
    return {"purelib": data[2], "platlib": data[2], "scripts": f"bin/{data[2]}"}.get(data[1])


if __name__ == "__main__":
    main()
