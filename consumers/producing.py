"""Makes records that the decoder understands: for `teacherd produce`, the demo and tests."""

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from teacherd.consumers.record import NewRecord

NPY = "application/x-npy"
PNG = "image/png"
_CHANNELS = (1, 3)


def encode_npy(array: npt.NDArray[np.generic]) -> bytes:
    """Return an array of numbers in the .npy format.

    Raises:
        ValueError: It holds Python objects.
    """
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def encode_png(array: npt.NDArray[np.uint8]) -> bytes:
    """Return an image, uint8 [H,W] or [C,H,W] with C 1 or 3, as PNG.

    Raises:
        ValueError: It has another type or shape.
    """
    is_plane = array.ndim == len("HW")
    if array.dtype != np.uint8 or not (is_plane or array.shape[0] in _CHANNELS):
        raise ValueError(
            f"array: {array.dtype} {list(array.shape)}: must be uint8 [H,W], [1,H,W] or [3,H,W]"
        )
    pixels = array
    if not is_plane:
        pixels = array[0] if len(array) == 1 else np.ascontiguousarray(array.transpose(1, 2, 0))
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def build_record(
    value: bytes,
    *,
    content_type: str,
    label: str | int | None,
    id: bytes | None = None,  # noqa: A002 - the header's name
    event_time_ms: int | None = None,
    key: bytes | None = None,
) -> NewRecord:
    """Return a record whose headers say what the value is; None leaves a header out."""
    headers = [("content-type", content_type.encode())]
    if label is not None:
        headers.append(("label", str(label).encode()))
    if id is not None:
        headers.append(("id", id))
    if event_time_ms is not None:
        headers.append(("event-time", str(event_time_ms).encode()))
    return NewRecord(value, tuple(headers), key)
