"""The options of `il.run`, and how they become a command line of `innerloop run`: both have the same defaults, checks
and messages."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypedDict

from innerloop.harness.cli.errors import Refused, nearest

Value = str | int | float | bool | None | list[Any] | dict[str, Any]  # what YAML can say
FLAGS = {  # where a name is not the flag's
    "settings": "set",
    "engine_args": "engine-arg",
    "workload_args": "workload-arg",
    "model_args": "model-arg",
}


class RunOptions(TypedDict, total=False):
    """The options mean what `innerloop run --help` says about the flags of the same names; None leaves a flag out.

    engine_args, workload_args, model_args: as --engine-arg, --workload-arg, --model-arg: {"load.users": 20}.
    label: values by key, stored with the result and added to the folder's name.
    slo: latency limits, such as "ttft_p99=500ms,tpot_p95=50ms", or a profile's name.
    seed: a number, or a string such as "1,schedule=7".
    timeout, load_timeout, hang_timeout: seconds, or a string such as "5m".
    device_hz: device samples per second.
    profiler, profiler_steps: a profiling pass after the measured run.
    verify: check the output against torch after the measured run.
    """

    engine_args: Mapping[str, Value]
    workload_args: Mapping[str, Value]
    model_args: Mapping[str, Value]
    label: Mapping[str, str | int | float]
    note: str | None
    weights: str | Path | None
    layer: str | None
    slo: str | None
    device: Literal["auto", "cpu", "cuda"]
    seed: int | str
    trust_remote_code: bool
    engine_python: str | Path | None
    environment: str | None
    cpus: str | None
    timeout: float | str | None
    load_timeout: float | str
    hang_timeout: float | str | None
    device_hz: float
    device_telemetry: Literal["used", "all", "off"]
    ceilings: Literal["auto", "off"]
    profiler: Literal["kernels", "nsys", "ncu", "host"] | None
    profiler_steps: str | None
    trace: bool
    keep_token_ids: bool
    verify: bool


OWN = ("engine", "model", "workload", "settings", "out")  # parameters of `il.run` itself


def arguments_of(given: Mapping[str, Any]) -> argparse.Namespace:
    """The arguments of `innerloop run`, with its defaults.

    Raises:
        TypeError: there is no such option.
        Refused: the flag does not accept a value.
    """
    from innerloop.harness.session.arguments import parser

    known = (*OWN, *RunOptions.__annotations__)
    for name in given:
        if name not in known:
            raise TypeError(f"run() has no option {name!r}{nearest(name, known)}")
    line = parser()
    line.exit_on_error = False
    try:
        found: argparse.Namespace = line.parse_args([word for name in given for word in _words(name, given[name])])
    except argparse.ArgumentError as error:
        raise Refused(line.said(str(error))) from None
    return found


def _words(name: str, value: Any) -> Iterable[str]:
    """A value as words of the command line."""
    flag = "--" + FLAGS.get(name, name).replace("_", "-")
    if value is None or value is False:
        return
    if value is True:
        yield flag
    elif name == "label":
        yield from (f"{flag}={key}={text}" for key, text in value.items())
    elif name in FLAGS:
        yield from (f"{flag}={key}={_yaml(flag, key, item)}" for key, item in value.items())
    else:
        yield f"{flag}={value.absolute() if isinstance(value, Path) else value}"


def _yaml(flag: str, key: str, value: Value) -> str:
    """A value as YAML that reads as just this value: JSON is YAML."""
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        raise Refused(f"{flag} {key}: a profile cannot store {value!r}") from None
