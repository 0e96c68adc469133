"""`python -m harness.checkpoints`."""

import sys

from harness.checkpoints import main

if __name__ == "__main__":
    sys.exit(main())
