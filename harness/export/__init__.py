"""Documents in other programs' formats."""
