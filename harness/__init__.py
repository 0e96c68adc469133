"""innerloop's own side of the wall: everything that runs in the user's interpreter."""

if __name__ == "harness":  # `python -m harness.VERB`, and no part of somebody's program
    import signal

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Until something has begun Ctrl-C ends this as any other program, and no KeyboardInterrupt shows where it was.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

__version__ = "0.1.0"
