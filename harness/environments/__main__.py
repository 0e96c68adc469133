"""`python -m harness.environments`."""

import sys

from innerloop.harness.environments import main

if __name__ == "__main__":
    sys.exit(main())
