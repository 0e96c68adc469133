"""One run: from a resolved spec to its result on disk."""
