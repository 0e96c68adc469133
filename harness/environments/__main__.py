"""`python -m harness.environments`."""

import sys

from harness.environments import main

if __name__ == "__main__":
    sys.exit(main())
