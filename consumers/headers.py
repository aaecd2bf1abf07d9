"""Headers of a record as bytes, in the one form that rows and digests use."""

import functools
import struct
from itertools import accumulate, pairwise

Headers = tuple[tuple[str, bytes], ...]

_PREFIX = struct.Struct(">H")
_ENTRY = struct.Struct(">HI")
_MAX_LAYOUT_BYTES = 0xFFFF


class HeadersError(ValueError):
    """These bytes are no packed headers, or these headers cannot be packed."""


def pack_headers(headers: Headers) -> bytes:
    """Return the headers as bytes: a layout (names and lengths), then the values.

    The layout comes first and together because a stream has few different ones: it is built and
    read once, after which packing and unpacking cost a lookup and the slices.

    Raises:
        HeadersError: Names are too long, or no UTF-8 can hold them.
    """
    if not headers:
        return b""
    names, values = zip(*headers, strict=True)
    return _layout_bytes(names, tuple(map(len, values))) + b"".join(values)


def unpack_headers(packed: bytes) -> Headers:
    """Return the headers that `pack_headers` made these bytes from.

    Raises:
        HeadersError: The bytes are something else.
    """
    if not packed:
        return ()
    start = _PREFIX.size + int.from_bytes(packed[: _PREFIX.size])
    total, slices = _layout_slices(packed[_PREFIX.size : start])
    if len(packed) - start != total:
        raise HeadersError(f"{len(packed) - start} bytes of header values where {total} belong")
    return tuple([(name, packed[start + low : start + high]) for name, low, high in slices])


@functools.lru_cache(maxsize=4096)
def _layout_bytes(names: tuple[str, ...], lengths: tuple[int, ...]) -> bytes:
    parts: list[bytes] = []
    try:
        for name, length in zip(names, lengths, strict=True):
            encoded = name.encode()
            parts += (_ENTRY.pack(len(encoded), length), encoded)
        layout = b"".join(parts)
        return _PREFIX.pack(len(layout)) + layout
    except (struct.error, UnicodeEncodeError) as error:
        raise HeadersError(
            f"the names of {len(names)} headers need more than {_MAX_LAYOUT_BYTES} bytes, or are "
            "not UTF-8; use fewer, shorter, plain names"
        ) from error


@functools.lru_cache(maxsize=4096)
def _layout_slices(layout: bytes) -> tuple[int, tuple[tuple[str, int, int], ...]]:
    """Return the length of all values, and for each header its name and where its value lies."""
    names, lengths, at = [], [], 0
    try:
        while at < len(layout):
            name_length, value_length = _ENTRY.unpack_from(layout, at)
            at += _ENTRY.size + name_length
            if at > len(layout):
                raise HeadersError("a header's name is cut short")
            names.append(layout[at - name_length : at].decode())
            lengths.append(value_length)
    except (struct.error, UnicodeDecodeError) as error:
        raise HeadersError("these bytes are no headers") from error
    bounds = pairwise(accumulate(lengths, initial=0))
    slices = tuple((name, low, high) for name, (low, high) in zip(names, bounds, strict=True))
    return sum(lengths), slices
