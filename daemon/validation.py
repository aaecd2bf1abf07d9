"""Checks the files that a configuration names, without starting or changing anything."""

from pathlib import Path

from teacherd.daemon.config import Config
from teacherd.daemon.errors import ConfigurationError, Problem
from teacherd.daemon.evaluation_sets import load_evaluation_sets
from teacherd.daemon.opening import load_base, require_classes


def validate_files(config: Config) -> None:
    """Check base model, classes, evaluation sets and decoder together.

    Raises:
        ConfigurationError: Carries every problem found.
    """
    problems: list[Problem] = []
    state = Path(config.process.state_directory)
    if state.exists() and not state.is_dir():
        problems.append(Problem("process.state_directory", f"{state} is a file, not a directory"))
    try:
        base = load_base(config.model)
        require_classes(config.model, base.manifest)
        load_evaluation_sets(
            config.evaluation,
            input_shape=base.manifest.architecture.input_shape,
            num_classes=len(base.manifest.classes),
        )
    except ConfigurationError as error:
        problems += error.problems
    if problems:
        raise ConfigurationError(problems)
