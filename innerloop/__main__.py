"""`innerloop VERB ...`, which is `python -m innerloop VERB ...`."""

import signal
from typing import NoReturn

if signal.getsignal(signal.SIGINT) in (signal.default_int_handler, signal.SIG_IGN):
    # Until something has begun Ctrl-C ends this as any other program, and no KeyboardInterrupt shows where it was. A
    # script's background job ignores it when it starts; once work has begun it is heard there too.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def console() -> NoReturn:
    """Runs the verb that the command line names, and ends the process."""
    from innerloop.harness.__main__ import console as run

    run()


if __name__ == "__main__":
    console()
