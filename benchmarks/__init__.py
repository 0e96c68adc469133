"""What is timed: run by hand on a quiet machine, never as a test."""
