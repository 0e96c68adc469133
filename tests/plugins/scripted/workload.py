"""The part of a workload that a simulation needs."""

from __future__ import annotations

from typing import Protocol, SupportsInt

import numpy as np


class Workload(Protocol):
    """The arrays of a workload, as the harness writes and the worker reads them."""

    @property
    def prompt_tokens(self) -> np.ndarray: ...  # int32 [total]
    @property
    def prompt_offsets(self) -> np.ndarray: ...  # int64 [n + 1]
    @property
    def output_lens(self) -> np.ndarray: ...  # int32 [n]
    @property
    def due_ns(self) -> np.ndarray: ...  # int64 [n], from the window's start; -1: rest_ns after the predecessor's end
    @property
    def next_request(self) -> np.ndarray: ...  # int32 [n], -1: none
    @property
    def user(self) -> np.ndarray: ...  # int32 [n], -1: none
    @property
    def rest_ns(self) -> SupportsInt: ...
    @property
    def duration_ns(self) -> SupportsInt: ...  # -1: until all have finished
