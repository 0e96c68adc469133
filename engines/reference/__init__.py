"""The reference of a verification: what transformers' plain forward pass says of tokens that an engine gave.

Runs in an interpreter with torch and transformers, in a process of its own, after every engine has gone: `main` scores,
`weights` loads a model in any precision, `rounding` makes it lose what an engine's number formats lose.
"""
