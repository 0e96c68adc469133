"""Everything that runs inside an engine's own interpreter: the standard library and numpy only."""
