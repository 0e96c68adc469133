"""The command lines as text, against what the tools' guides document."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from innerloop.harness.cli.errors import Refused
from innerloop.harness.profiling import tools

# NVIDIA Nsight Systems User Guide, "CLI Profile Command Switch Options" and "CLI Export Command Switch
# Options": the options used here and the values documented for them; a value of None is free. Long options take
# their value behind an equal sign ("Command Line Options"). Compared with `nsys profile --help` and `nsys export
# --help` of Nsight Systems 2023.4.4.
NSYS_PROFILE: dict[str, set[str] | None] = {
    "--trace": {"cuda", "nvtx", "cublas", "cudnn", "mpi", "openmp", "osrt", "ucx", "none"},
    "--cuda-graph-trace": {"graph", "node"},
    "--sample": {"process-tree", "system-wide", "none"},
    "--cpuctxsw": {"process-tree", "system-wide", "none"},
    "--trace-fork-before-exec": {"true", "false"},
    "--capture-range": {"none", "cudaProfilerApi", "hotkey", "nvtx"},
    "--capture-range-end": {"none", "stop", "stop-shutdown", "repeat", "repeat-shutdown"},
    "--output": None,
    "--force-overwrite": {"true", "false"},
}
NSYS_EXPORT: dict[str, set[str] | None] = {
    "--type": {"arrow", "arrowdir", "hdf", "info", "json", "jsonlines", "parquetdir", "sqlite", "text"},
    "--output": None,
    "--force-overwrite": {"true", "false"},
}
# NVIDIA Nsight Compute CLI guide, "Command Line Options": General, Launch, Filter, Profile, Other.
# Compared with `ncu --help` of Nsight Compute 2024.1.1.
NCU: dict[str, set[str] | None] = {
    "--profile-from-start": {"on", "off"},
    "--target-processes": {"application-only", "all"},
    "--nvtx": None,
    "--set": {"basic", "detailed", "full", "roofline"},
    "--graph-profiling": {"node", "graph"},
    "--launch-count": None,
    "--clock-control": {"base", "none"},
    "--export": None,
    "--force-overwrite": None,
}


def assert_documented(options: list[str], documented: dict[str, set[str] | None]) -> None:
    for option in options:
        name, _, value = option.partition("=")
        assert name in documented, f"{name} is not documented"
        allowed = documented[name]
        if allowed is not None:
            assert set(value.split(",")) <= allowed, option


def test_nsys_is_started_with_documented_options_only():
    program, verb, *options = tools.nsys(Path("/run/profile-nsys"))
    assert (program, verb) == ("nsys", "profile")
    assert_documented(options, NSYS_PROFILE)


def test_the_nsys_command_line_is_this():
    assert tools.text(tools.nsys(Path("/my runs/profile-nsys"))) == (
        "nsys profile --trace=cuda,nvtx,osrt --cuda-graph-trace=node --sample=none --cpuctxsw=none"
        " --trace-fork-before-exec=true --capture-range=cudaProfilerApi --capture-range-end=stop"
        " '--output=/my runs/profile-nsys/report' --force-overwrite=true"
    )


def test_nsys_exports_with_documented_options_only_beside_its_report():
    program, verb, *options, report = tools.export(Path("/run/report.nsys-rep"))
    assert (program, verb, report) == ("nsys", "export", "/run/report.nsys-rep")
    assert_documented(options, NSYS_EXPORT)
    assert "--output=/run/report.sqlite" in options


def test_ncu_is_started_with_documented_options_only():
    program, *options = tools.ncu(Path("/run/profile-ncu"))
    assert program == "ncu"
    assert_documented(options, NCU)
    assert "--profile-from-start=off" in options  # else it would profile the loading of the model


def test_a_command_line_survives_a_shell():
    command = tools.ncu(Path("/a folder/with 'quotes'"))
    assert shlex.split(tools.text(command)) == command


def test_a_tool_that_is_not_here_is_refused_with_where_it_is_from_and_what_to_run(monkeypatch):
    monkeypatch.setattr(tools, "find", lambda tool: None)
    with pytest.raises(Refused, match="nsys is not installed here") as refusal:
        tools.require("nsys", ["nsys", "profile", "a b"])
    assert "https://developer.nvidia.com/nsight-systems" in refusal.value.details[0]
    assert refusal.value.details[-1] == "nsys profile 'a b'"


def test_a_tool_is_found_where_its_packages_put_it(monkeypatch, tmp_path):
    for version in ("2024.1.1", "2025.3.1"):
        program = tmp_path / version / "bin" / "nsys"
        program.parent.mkdir(parents=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setitem(tools.PLACES, "nsys", (f"{tmp_path}/*/bin/nsys",))
    assert tools.find("nsys") == str(tmp_path / "2025.3.1" / "bin" / "nsys")
