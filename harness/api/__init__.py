"""The Python API behind `import innerloop as il`: start runs, open those that are there, collect them."""
