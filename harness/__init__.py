"""innerloop's own side of the wall: everything that runs in the user's interpreter."""

if __name__ == "harness":  # `python -m harness.VERB`, and no part of somebody's program
    import signal

    if signal.getsignal(signal.SIGINT) in (signal.default_int_handler, signal.SIG_IGN):
        # As in innerloop/__main__.py.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

__version__ = "0.1.0"
