"""Layer `http`: the client that a server of any engine is driven with, and a server that does nothing."""
