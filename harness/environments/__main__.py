"""`innerloop environments`: list, create, register and remove the engines' environments."""

from __future__ import annotations

from innerloop.harness.cli.command import as_command, leave
from innerloop.harness.environments.commands import do, parser


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code: 0, 2 refused, 3 the installer failed, 130 interrupted."""
    arguments = parser().parse_args(argv)
    makes = arguments.verb in ("create", "register", "remove") and not getattr(arguments, "dry_run", False)
    return as_command(lambda: do(arguments), keeps=makes)


if __name__ == "__main__":
    leave(main())
