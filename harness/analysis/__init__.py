"""A run's figures: numpy arrays in, numbers out, no files. Seconds and tokens; what is not known is None, never 0."""
