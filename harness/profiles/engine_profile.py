"""What an engine's profile says: profiles/engines/NAME.yaml, or the PROFILE of a plug-in."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from innerloop.harness.profiles.validation import NAME, Strict

Version = Annotated[str, Field(pattern=r"^\d+(\.\d+)*$")]
Range = Annotated[str, Field(pattern=r"^(>=|<)\d+\.\d+(,(>=|<)\d+\.\d+)*$")]


class Versions(Strict):
    """How an environment of another version than the lock's is made.

    releases: those that have been tried, the oldest first: what a range of versions is made of. oldest: below it none
        can be made, for the reason `why_older`.
    requirements: the file that the lock was made from, whose pin of the distribution is replaced; overrides, excludes:
        files for uv's resolution; torch: entries that are put in front of it.
    """

    releases: list[str] = []
    oldest: Version
    why_older: str
    requirements: str
    overrides: str | None = None
    excludes: str | None = None
    torch: str | None = None


class Recipe(Strict):
    """An engine's environment on one kind of device.

    lock: the file in profiles/engines/locks that lists every package; None: innerloop cannot make it.
    python: which versions of Python the lock is for, `>=` and `<` only.
    distribution: the installed distribution whose version is the engine's; `alternatives`: others, accepted instead in
        the user's own interpreter.
    package: what the engine is imported as.
    platforms: platforms, as `Machine.platform` reports them; empty: any.
    glibc, compute_capability, cuda: the oldest supported; `cuda` is what the driver must be able to run.
    interpreter: "harness" where the engine runs in the Python that innerloop itself runs in.
    env: environment variables of the worker.
    preload: shared libraries, as patterns below the environment's folder, put into the worker's LD_PRELOAD.
    versions: how other versions of the engine are installed; None: they are not.
    substituted: the part of the engine that is replaced on this device, which makes its speed unrepresentative; such
        runs are not ranked, and the engine is never the default.
    """

    lock: str | None = None
    python: Range | None = None
    distribution: str | None = None
    alternatives: list[str] = []
    package: str | None = None
    platforms: list[str] = []
    glibc: Version | None = None
    compute_capability: Version | None = None
    cuda: Version | None = None
    interpreter: Literal["environment", "harness"] = "environment"
    env: dict[str, str] = {}
    preload: list[str] = []
    substituted: str | None = None
    versions: Versions | None = None


class EngineProfile(Strict):
    """One engine, as profiles/engines/NAME.yaml says.

    layers: the entry points that it offers, innermost first; with an adapter, those that the adapter drives.
    missing_layers: for each layer that other engines have, why this one has not.
    adapter: whether this version of innerloop can drive it.
    rank: of the engines that run here, the lowest rank is the default.
    needs: its requirements, shown where it cannot run ("x needs ...").
    quantization: the methods that it runs, by kind of device; unquantized weights always run.
    environments: by kind of device, "cpu" or "cuda".
    attached: whether it is a server that the user has started: no weights are made for it, the settings only describe
        it, and it is nobody's default.
    plugin: the adapter's file, for engines that are not innerloop's own.
    pinned: the version that was requested, as in `vllm==0.30.0`; None: the lock's.
    """

    name: Annotated[str, Field(pattern=NAME)]
    title: str
    summary: str
    layers: Annotated[list[str], Field(min_length=1)]
    missing_layers: dict[str, str] = {}
    adapter: bool
    rank: Annotated[int, Field(ge=0)]
    needs: str
    quantization: dict[str, list[str]] = {}
    environments: Annotated[dict[str, Recipe], Field(min_length=1)]
    attached: bool = False
    plugin: str | None = None
    pinned: str | None = None
