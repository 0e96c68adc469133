"""The subprocess that loads an engine and drives it: its job, its loop and its records."""
