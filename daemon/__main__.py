"""The entry point: runs the command line and turns its errors into exit codes."""

import sys
from collections.abc import Sequence

from teacherd.daemon.cli import app
from teacherd.daemon.errors import TeacherdError


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `teacherd`; exits with a code of `ExitCode`, 2 for a wrong command line.

    Args:
        arguments: Those of the process by default.
    """
    try:
        app(arguments, prog_name="teacherd")
    except TeacherdError as error:
        sys.stderr.write(f"teacherd: {error}\n")
        sys.exit(int(error.exit_code))


if __name__ == "__main__":
    main()
