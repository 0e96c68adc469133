"""What the machine did while the engine stepped: one file a source, each a `sampler.Sampler` in a thread of its own."""
