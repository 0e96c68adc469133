"""`python -m innerloop VERB ...`."""

from innerloop.harness.__main__ import console

console()
