"""Documents of earlier versions made into today's: plain data in, plain data out, a file a kind and version.

A migration renames, moves and says null. It works out no figure, and is never changed once its version is history.
"""
