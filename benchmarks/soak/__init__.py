"""Runs that are killed, installations that are killed, and runs that start together: what is left behind."""
