"""Decodes single records for tests, and says what came of them."""

import numpy as np
from records import (
    at_offsets,
)

from teacherd.consumers.decoding import Decoder, DecodingConfig
from teacherd.consumers.instance import Instance, Rejected
from teacherd.consumers.producing import build_record
from teacherd.consumers.record import NewRecord

DIGITS = tuple("0123456789")


def decoder(
    *,
    input_shape: tuple[int, ...] = (3, 32, 32),
    classes: tuple[str, ...] = DIGITS,
    **config: object,
) -> Decoder:
    """Build a decoder that differs from the defaults where said."""
    return Decoder(DecodingConfig(**config), input_shape=input_shape, classes=classes)


def decode(made: Decoder, record: NewRecord) -> Instance | Rejected:
    """Decode one record."""
    ((result,),) = [made.decode_batch(at_offsets([record]))]
    return result


def decode_value(
    value: bytes, content_type: str, *, input_shape: tuple[int, ...] = (3, 32, 32)
) -> Instance | Rejected:
    """Decode a value that has the label 3."""
    made = decoder(input_shape=input_shape)
    return decode(made, build_record(value, content_type=content_type, label="3"))


def reason(result: Instance | Rejected) -> str:
    """Return why a record was rejected."""
    assert isinstance(result, Rejected), "it was not rejected"
    return result.reason


def array(result: Instance | Rejected) -> np.ndarray:
    """Return what a record was decoded to."""
    assert isinstance(result, Instance), f"it was rejected: {result}"
    return result.array
