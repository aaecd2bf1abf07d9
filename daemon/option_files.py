"""Options whose values are contents of files, so that secrets stand in no configuration."""

from collections.abc import Mapping
from pathlib import Path

from teacherd.daemon.errors import ConfigurationError, Problem


def read_option_files(section: str, paths: Mapping[str, str]) -> dict[str, str]:
    """Return the options by name.

    Args:
        section: Dotted key of the section whose `option_files` these are.
        paths: File by name of the option.

    Raises:
        ConfigurationError: One cannot be read.
    """
    options = {}
    for name, path in paths.items():
        try:
            options[name] = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            message = f"{path} cannot be read: {error}; name a file with the value alone"
            raise ConfigurationError(
                [Problem(f"{section}.option_files.{name}", message)]
            ) from error
    return options
