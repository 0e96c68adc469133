"""An engine of a few lines, so that the loop and the recorder can be tested on exact sequences of events."""

from __future__ import annotations

import time

from innerloop.engines.contract import Engine, EngineInfo, Load, Request, StepReport


class ScriptedEngine(Engine):
    """Gives every running request one token a step; `step_s` is how long a step takes, `cheat` changes counts."""

    name = "scripted"
    layers = ("core",)

    def __init__(self, step_s: float = 0.0, cheat: dict[int, int] | None = None) -> None:
        self.step_s, self.cheat = step_s, cheat or {}
        self.running: dict[int, list[int]] = {}
        self.submitted: list[tuple[int, int]] = []  # (step, request)
        self.steps = 0
        self.most_running = 0

    def imports(self) -> str:
        return "1"

    def load(self, load: Load) -> EngineInfo:
        return EngineInfo(version="1")

    def submit(self, request: Request) -> None:
        self.submitted.append((self.steps, request.index))
        count = self.cheat.get(request.index, request.output_tokens)
        self.running[request.index] = list(range(count))

    def step(self) -> StepReport | None:
        if not self.running:
            return None
        start = time.monotonic_ns()
        time.sleep(self.step_s)
        self.steps += 1
        self.most_running = max(self.most_running, len(self.running))
        tokens = [(index, [left.pop(0)]) for index, left in self.running.items() if left]
        finished = [index for index, left in self.running.items() if not left]
        for index in finished:
            del self.running[index]
        return StepReport(start, time.monotonic_ns(), tokens, finished, running=len(tokens))

    def has_work(self) -> bool:
        return bool(self.running)

    def close(self) -> None:
        pass
