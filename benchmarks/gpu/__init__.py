"""A session on a GPU machine that reaches no network: what is packed for it, and what is run there."""
