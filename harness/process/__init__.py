"""A process in an engine's interpreter, behind a guard that leaves nothing of it behind."""
