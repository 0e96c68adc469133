"""The adapter contract under its public name, for engines that are plugged in: docs/how-to/add-an-engine.md."""

from innerloop.engines.contract import (
    CONTRACT,
    Adapter,
    EngineInfo,
    Load,
    Nothing,
    Preparation,
    Probe,
    Request,
    Session,
    StepReport,
    UnsupportedSetting,
    WrongTokenCount,
)

__all__ = [
    "CONTRACT",
    "Adapter",
    "EngineInfo",
    "Load",
    "Nothing",
    "Preparation",
    "Probe",
    "Request",
    "Session",
    "StepReport",
    "UnsupportedSetting",
    "WrongTokenCount",
]
