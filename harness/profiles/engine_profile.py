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
    distribution: the installed distribution whose version is the engine's; `alternatives`: others that will do where
        the user gives an interpreter of their own.
    package: what the engine is imported as.
    platforms: as `Machine.platform` says; empty: any.
    glibc, compute_capability, cuda: the oldest that will do; `cuda` is what the driver must be able to run.
    interpreter: "harness" where the engine runs in the Python that innerloop itself runs in.
    env: environment variables of the worker.
    preload: shared libraries, as patterns below the environment's folder, put into the worker's LD_PRELOAD.
    versions: how other versions of the engine are installed; None: they are not.
    substituted: what of the engine something else stands in for, so that its speed on this device says nothing of the
        engine's: such a run stands outside rankings, and is nobody's default.
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
    missing_layers: why one that others have is not among them, by its name.
    adapter: whether this version of innerloop can drive it.
    rank: which engine is the default where several run: the lowest.
    needs: what it needs to run, to follow "needs"; shown where it cannot.
    quantization: the methods that it runs, by kind of device; unquantized weights always run.
    environments: by kind of device, "cpu" or "cuda".
    plugin: the file of its adapter, where that is none of innerloop's own.
    pinned: the version that was asked for by name, `vllm==0.30.0`; None: the lock's.
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
    plugin: str | None = None
    pinned: str | None = None
