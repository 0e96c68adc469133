"""`python -m innerloop VERB ...`."""

import sys

from innerloop.harness.__main__ import main

sys.exit(main())
