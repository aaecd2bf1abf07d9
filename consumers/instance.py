"""What decoding makes of a record: an instance, or the reason why it is none."""

from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.uint8] | npt.NDArray[np.float32]

Reason = Literal[
    "bad_event_time",
    "bad_id",
    "decoder_error",
    "empty",
    "headers_too_large",
    "malformed",
    "missing_label",
    "not_finite",
    "out_of_range",
    "pickle",
    "too_large",
    "too_many_pixels",
    "truncated",
    "unknown_content_type",
    "unknown_label",
    "wrong_dtype",
    "wrong_shape",
]
"""Why a record is no instance: few and fixed, because each is a label of a metric."""

REASONS: frozenset[str] = frozenset(get_args(Reason))

MAX_MESSAGE_CHARACTERS = 300

NAMED = -2
"""The label of an instance whose class is known by its name only, which comes beside it."""


class Instance(NamedTuple):
    """One labelled input. A tuple because one is made for each record."""

    array: Array
    """uint8 [C,H,W] for images, float32 [F] for features; perhaps read-only."""
    label: int
    """Place of its class among the classes, or NAMED."""
    id: bytes | None
    """The producer's; may repeat."""
    event_time_ms: int
    """When what it shows happened; the record's own timestamp where the producer says nothing."""
    name: str | None = None
    """Of its class, where the label is NAMED."""


class Rejected(NamedTuple):
    """A record that is no instance, and why; the message never repeats its payload."""

    reason: Reason
    message: str


class RejectionError(Exception):
    """Raised inside decoding only; the decoder turns it into a `Rejected`."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.rejected = Rejected(reason, message[:MAX_MESSAGE_CHARACTERS])
