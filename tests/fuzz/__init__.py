"""Damaged and hostile inputs, made from seeds: `python -m tests.fuzz --inputs 100000 --seed 1`."""
