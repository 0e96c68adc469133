"""Several runs that are compared with each other."""
