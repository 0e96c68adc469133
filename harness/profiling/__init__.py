"""The profiling pass, harness side: a second worker on the same workload, with a profiler around chosen steps."""
