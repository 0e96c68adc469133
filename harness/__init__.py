"""innerloop's own side of the wall: everything that runs in the user's interpreter."""

__version__ = "0.1.0"
