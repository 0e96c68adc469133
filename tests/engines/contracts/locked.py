"""What a lock pins."""

from __future__ import annotations

from innerloop.harness.profiles.engines import LOCKS


def locked_version(lock: str, distribution: str) -> str:
    """The version of a distribution in profiles/engines/locks."""
    for line in (LOCKS / lock).read_text().splitlines():
        name, _, rest = line.partition("==")
        if name == distribution:
            return rest.split()[0]
    raise LookupError(f"{lock} does not pin {distribution}")
