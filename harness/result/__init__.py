"""What was observed of a run, turned into its result."""
