"""`python -m innerloop VERB ...`."""

import sys

from innerloop.harness.cli import main

sys.exit(main())
