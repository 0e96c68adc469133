"""innerloop: an in-process benchmarker for LLM inference engines.

In a checkout `harness`, `engines` and `profiles` are links to the folders beside this one; a wheel holds the files.
"""
