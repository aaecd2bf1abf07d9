"""The verb of inference: serve."""

from typing import Annotated

import typer

from teacherd.daemon.cli_support import (
    DEFAULT_CONFIG,
    ConfigOption,
    SetOption,
    end_with,
    read_config,
)

# Imports of torch stand inside the verb: see cli_service.


def serve(
    root: Annotated[
        str | None,
        typer.Argument(
            help="Directory or URL of the versions; by default serving.root, or what the daemon "
            "of this configuration publishes."
        ),
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    assignments: SetOption = None,
) -> None:
    """Answer inference requests with the newest teacher; always in the foreground."""
    from pathlib import Path

    from teacherd.daemon.logs import configure_logs
    from teacherd.daemon.open_files import raise_open_files
    from teacherd.daemon.serving import Serving
    from teacherd.daemon.state_directory import PUBLIC

    settings = read_config(config, assignments, may_be_missing=root is not None)
    configure_logs(settings.logging)
    raise_open_files()
    own = str(Path(settings.process.state_directory) / PUBLIC)
    root = root or settings.serving.root or own
    end_with(Serving(settings.serving, root=root).run())
