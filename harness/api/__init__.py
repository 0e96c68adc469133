"""The Python API behind `import innerloop as il`: start runs, open existing ones, collect them."""
