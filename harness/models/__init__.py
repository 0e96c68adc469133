"""Families of models: which tensors one stores, what a token keeps in the cache, what a step moves and computes."""
