"""`innerloop checkpoints plan MODEL | create MODEL | list | remove NAME`."""

from __future__ import annotations

from innerloop.harness.checkpoints.commands import do, parser
from innerloop.harness.cli.command import as_command, leave


def main(argv: list[str] | None = None) -> int:
    """Runs one verb and returns the exit code."""
    asked = parser().parse_args(argv)
    makes = asked.verb in ("create", "remove") and not getattr(asked, "dry_run", False)
    return as_command(lambda: do(asked), keeps=makes)


if __name__ == "__main__":
    leave(main())
