"""Traces that others have recorded: read as a stream, row by row, every wrong one named by its line."""
