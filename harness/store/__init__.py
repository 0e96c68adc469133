"""Folders and files of runs: whole or absent, and read back."""
