"""`python -m harness.checkpoints`."""

import sys

from innerloop.harness.checkpoints import main

if __name__ == "__main__":
    sys.exit(main())
