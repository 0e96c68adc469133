"""What `il.run` takes beside the names, and the same as the command line of `innerloop run`: one set of defaults,
checks and messages for both."""

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
    """What `innerloop run --help` says of the flag of the same name holds here too; None is the flag left out.

    engine_args, workload_args, model_args: as --engine-arg, --workload-arg, --model-arg: {"load.users": 20}.
    label: texts by key, kept with the result and in the folder's name.
    seed: a number, or text as "1,schedule=7".
    timeout, load_timeout, hang_timeout: seconds, or text as "5m".
    device_hz: samples of a device a second.
    profiler, profiler_steps: a pass with a profiler after the measured run.
    """

    engine_args: Mapping[str, Value]
    workload_args: Mapping[str, Value]
    model_args: Mapping[str, Value]
    label: Mapping[str, str | int | float]
    note: str | None
    weights: str | Path | None
    layer: str | None
    device: Literal["auto", "cpu", "cuda"]
    seed: int | str
    trust_remote_code: bool
    engine_python: str | Path | None
    environment: str | None
    cpus: str | None
    timeout: float | str | None
    load_timeout: float | str
    hang_timeout: float | str
    device_hz: float
    device_telemetry: Literal["used", "all", "off"]
    ceilings: Literal["auto", "off"]
    profiler: Literal["kernels", "nsys", "ncu", "host"] | None
    profiler_steps: str | None
    trace: bool
    keep_token_ids: bool


OWN = ("engine", "model", "workload", "settings", "out")  # parameters of `il.run` itself


def arguments_of(given: Mapping[str, Any]) -> argparse.Namespace:
    """What the command line of `innerloop run` would say, its defaults filled in.

    Raises:
        TypeError: there is no such option.
        Refused: a value that its flag does not take.
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
