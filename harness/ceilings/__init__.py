"""The two ceilings of a device: what its memory moves and what its matrix units compute, measured and kept.

They are measured by torch in an engine's interpreter, in a process of its own behind the guard, and kept in the cache
folder by device, driver and version of torch. docs/method/roofline.md says how they are used.
"""
