"""What is stored of a run, of a run of several layers and of an investigation of steps: plain data classes.

Each field says what it is, its unit, its formula, when it is null and which direction is better. result.schema.json,
the reference pages and what `compare` knows of directions are made from that.
"""
