"""Decoders for the records of a lineage: set up as its network and its settings say."""

import functools
from collections.abc import Callable, Sequence

from teacherd.consumers.decoding import Decoder, DecodingConfig
from teacherd.daemon.errors import ConfigurationError, Problem
from teacherd.daemon.lineage import Lineage
from teacherd.models.artifact import Manifest

OpenDecoder = Callable[[bool], Decoder]
"""Opens a decoder, with open labels or not; whoever asks closes it."""


def build_decoder(
    config: DecodingConfig,
    input_shape: tuple[int, ...],
    classes: Sequence[str],
    has_open_labels: bool = False,  # noqa: FBT001, FBT002 (what varies once the rest is bound)
) -> Decoder:
    """Build the decoder for a lineage.

    Args:
        config: In force when what it decodes is planned.
        input_shape: The network's.
        classes: Version 0's.
        has_open_labels: As the plan says.

    Raises:
        ConfigurationError: The user's own decoder cannot be imported.
    """
    try:
        return Decoder(
            config, input_shape=input_shape, classes=classes, has_open_labels=has_open_labels
        )
    except ValueError as error:
        message = str(error).removeprefix("decoder: ")
        raise ConfigurationError([Problem("decoding.decoder", message)]) from error


def decoders_for(config: DecodingConfig, version: Manifest, lineage: Lineage) -> OpenDecoder:
    """Return what opens decoders for a lineage.

    Args:
        config: In force when what they decode is planned.
        version: Any of the lineage.
        lineage: Has been opened.
    """
    shape = version.architecture.input_shape
    return functools.partial(build_decoder, config, shape, lineage.first_classes)
