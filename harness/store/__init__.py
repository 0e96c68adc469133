"""Folders and files of runs: whole or absent, and read back. `open(path)` says what a path holds."""

from innerloop.harness.store.stored import StoredLadder, StoredRun, no_run, open

__all__ = ["StoredLadder", "StoredRun", "no_run", "open"]
