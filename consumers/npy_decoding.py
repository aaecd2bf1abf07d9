"""Arrays in the .npy format, read in blocks; nothing in a header is ever evaluated or unpickled.

Legend: N records, X any axes, C channels, H height, W width, F features.
"""

import functools
import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from teacherd.consumers.instance import Reason, RejectionError

_MAGIC = b"\x93NUMPY"
_LENGTH_FIELDS = {b"\x01\x00": 2, b"\x02\x00": 4, b"\x03\x00": 4}
_VERSION_AT = len(_MAGIC)
_LENGTH_AT = _VERSION_AT + 2
_MAX_HEADER_BYTES = 4096
_MAX_DIMENSIONS = 8

_ITEM = (
    r"""\s*(?:['"]descr['"]\s*:\s*(?P<descr{0}>'[^']*'|"[^"]*"|\[[^\]]*\])"""
    r"""|['"]fortran_order['"]\s*:\s*(?P<order{0}>True|False)"""
    r"""|['"]shape['"]\s*:\s*\((?P<shape{0}>[\dL,\s]*)\))\s*"""
)
_HEADER = re.compile(r"\{" + ",".join(_ITEM.format(n) for n in range(3)) + r",?\s*\}\s*")
_DESCR = re.compile(r"['\"]([<>|=]?)([biuf])(\d{1,2})['\"]")
_LENGTH = re.compile(r"\d{1,12}L?")
_SIZES = {"b": {1}, "i": {1, 2, 4, 8}, "u": {1, 2, 4, 8}, "f": {2, 4, 8}}


class NpyLayout(NamedTuple):
    """What a header says."""

    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    is_fortran: bool
    start: int
    """First byte of the data."""
    end: int


def npy_layout(value: bytes) -> NpyLayout:
    """Return what the header of these bytes says.

    Raises:
        RejectionError: There is no header, it asks for unpickling, or the data has another length.
    """
    width = _LENGTH_FIELDS.get(value[_VERSION_AT:_LENGTH_AT])
    if width is None or not value.startswith(_MAGIC):
        raise RejectionError("malformed", "the value does not begin as .npy, versions 1 to 3, does")
    start = _LENGTH_AT + width
    start += int.from_bytes(value[_LENGTH_AT:start], "little")
    if start > _MAX_HEADER_BYTES:
        raise RejectionError("malformed", f"the .npy header is longer than {_MAX_HEADER_BYTES}")
    if start > len(value):
        raise RejectionError("truncated", "the .npy header is cut short")
    layout = _parse(value[:start], _LENGTH_AT + width)
    if len(value) != layout.end:
        reason: Reason = "truncated" if len(value) < layout.end else "malformed"
        raise RejectionError(
            reason, f"{len(value) - start} bytes of data where {layout.end - start} belong"
        )
    return layout


def shared_layout(values: Sequence[bytes]) -> NpyLayout | None:
    """Return the layout of arrays that have the same header and length; None if they have not."""
    try:
        layout = npy_layout(values[0])
    except RejectionError:
        return None
    header = values[0][: layout.start]
    if set(map(len, values)) != {layout.end}:
        return None
    return layout if all(value.startswith(header) for value in values) else None


def npy_rows(layout: NpyLayout, values: Sequence[bytes]) -> npt.NDArray[np.generic]:
    """Return the arrays of values that share this layout as a read-only view [N, X]."""
    strides = [layout.dtype.itemsize]
    for length in layout.shape[:0:-1] if not layout.is_fortran else layout.shape[:-1]:
        strides.append(strides[-1] * length)
    if not layout.is_fortran:
        strides.reverse()
    return np.ndarray(
        (len(values), *layout.shape),
        layout.dtype,
        b"".join(values),
        layout.start,
        (layout.end, *strides[: len(layout.shape)]),
    )


# A stream has few different headers, and reading one costs more than the data of a small array.
@functools.lru_cache(maxsize=256)
def _parse(prefix: bytes, text_start: int) -> NpyLayout:
    match = _HEADER.fullmatch(prefix[text_start:].decode("latin-1"))
    if match is None:
        raise RejectionError("malformed", "the .npy header is not its three fields")
    found = match.groupdict().items()
    fields = {name.rstrip("012"): text for name, text in found if text is not None}
    if len(fields) != len(("descr", "order", "shape")):
        raise RejectionError("malformed", "the .npy header gives a field twice")
    dtype, shape = _dtype(fields["descr"]), _shape(fields["shape"])
    num_bytes = math.prod(shape) * dtype.itemsize
    is_fortran = fields["order"] == "True"
    return NpyLayout(dtype, shape, is_fortran, len(prefix), len(prefix) + num_bytes)


def _dtype(descr: str) -> np.dtype[np.generic]:
    match = _DESCR.fullmatch(descr)
    if match is not None and int(match[3]) in _SIZES[match[2]]:
        return np.dtype(match[1] + match[2] + match[3])
    if "O" in descr:
        raise RejectionError("pickle", "the array holds Python objects, which are never unpickled")
    raise RejectionError("wrong_dtype", "the array holds no plain integers, floats or booleans")


def _shape(text: str) -> tuple[int, ...]:
    lengths = [part.strip() for part in text.split(",")]
    if lengths and not lengths[-1]:
        lengths.pop()
    if len(lengths) > _MAX_DIMENSIONS or not all(map(_LENGTH.fullmatch, lengths)):
        raise RejectionError("malformed", "the .npy header gives no usable shape")
    return tuple(int(length.rstrip("L")) for length in lengths)
