"""`python -m harness.ceilings`."""

import sys

from innerloop.harness.ceilings import main

if __name__ == "__main__":
    sys.exit(main())
