"""Failures of what adapters drive, by the causes that they are told apart by."""


class ServerFailed(RuntimeError):
    """A server cannot be reached, ended a connection or answered with an error; its own words where it has any."""
