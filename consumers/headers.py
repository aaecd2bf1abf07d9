"""Headers of a record as bytes, in the one form that rows and digests use."""

import functools
import struct
from itertools import accumulate, pairwise
from typing import NamedTuple

Headers = tuple[tuple[str, bytes], ...]

UNREADABLE_HEADERS = "unreadable-headers"
"""Name of the one header that damaged ones are shown as: bytes that this library did not pack."""
PREFIX_BYTES = 2
MAX_CACHED_BYTES = 1024
"""Layouts that are longer are read anew each time: what producers send must not fill memory."""
_ENTRY = struct.Struct(">HI")
_MAX_LAYOUT_BYTES = 0xFFFF


class HeadersError(ValueError):
    """These bytes are no packed headers, or these headers cannot be packed."""


class HeadersLayout(NamedTuple):
    """Names and lengths, which precede the values in packed headers.

    They come first and together because a stream has few different ones: each is read once, after
    which unpacking costs a lookup and the slices.
    """

    num_bytes: int
    """Of the layout itself."""
    names: tuple[str, ...]
    slices: tuple[slice, ...]
    """Where in packed headers of this layout the values are."""
    total_bytes: int
    """Of packed headers of this layout."""


def pack_headers(headers: Headers) -> bytes:
    """Return the headers as bytes: the layout's length, the layout, the values.

    Raises:
        HeadersError: Names are too long, or no UTF-8 can hold them.
    """
    if not headers:
        return b""
    names, values = zip(*headers, strict=True)
    is_short = sum(map(len, names)) <= MAX_CACHED_BYTES
    layout_bytes = _known_layout_bytes if is_short else _layout_bytes
    return layout_bytes(names, tuple(map(len, values))) + b"".join(values)


def unpack_headers(packed: bytes) -> Headers:
    """Return the headers that `pack_headers` made these bytes from.

    Raises:
        HeadersError: The bytes are something else.
    """
    layout = headers_layout(packed)
    values = [packed[part] for part in layout.slices]
    return tuple(zip(layout.names, values, strict=True))


def readable_headers(packed: bytes) -> Headers:
    """Return the headers, or damaged ones whole under one name that says so."""
    try:
        return unpack_headers(packed)
    except HeadersError:
        return ((UNREADABLE_HEADERS, packed),)


def headers_layout(packed: bytes) -> HeadersLayout:
    """Return the layout of packed headers.

    Raises:
        HeadersError: The bytes are something else.
    """
    layout = read_layout(packed[: PREFIX_BYTES + int.from_bytes(packed[:PREFIX_BYTES])])
    if layout.total_bytes != len(packed):
        raise _not_headers()
    return layout


def _layout_bytes(names: tuple[str, ...], lengths: tuple[int, ...]) -> bytes:
    parts: list[bytes] = []
    try:
        for name, length in zip(names, lengths, strict=True):
            encoded = name.encode()
            parts += (_ENTRY.pack(len(encoded), length), encoded)
        layout = b"".join(parts)
        return len(layout).to_bytes(PREFIX_BYTES) + layout
    except (struct.error, OverflowError, UnicodeEncodeError) as error:
        raise HeadersError(
            f"the names of {len(names)} headers need more than {_MAX_LAYOUT_BYTES} bytes, or are "
            "not UTF-8; use fewer, shorter, plain names"
        ) from error


_known_layout_bytes = functools.lru_cache(maxsize=4096)(_layout_bytes)


def read_layout(layout: bytes) -> HeadersLayout:
    """Return what the bytes of a layout say.

    Raises:
        HeadersError: The bytes are something else, or not a whole layout.
    """
    return _known_layout(layout) if len(layout) <= MAX_CACHED_BYTES else _layout(layout)


def _layout(layout: bytes) -> HeadersLayout:
    names, lengths, at = [], [], PREFIX_BYTES
    if layout and len(layout) != PREFIX_BYTES + int.from_bytes(layout[:PREFIX_BYTES]):
        raise _not_headers()
    try:
        while at < len(layout):
            name_length, value_length = _ENTRY.unpack_from(layout, at)
            at += _ENTRY.size + name_length
            names.append(layout[at - name_length : at].decode())
            lengths.append(value_length)
    except (struct.error, UnicodeDecodeError) as error:
        raise _not_headers() from error
    if at > max(len(layout), PREFIX_BYTES):
        raise _not_headers()
    bounds = list(accumulate(lengths, initial=len(layout)))
    slices = tuple(slice(low, high) for low, high in pairwise(bounds))
    return HeadersLayout(len(layout), tuple(names), slices, bounds[-1])


_known_layout = functools.lru_cache(maxsize=4096)(_layout)


def _not_headers() -> HeadersError:
    return HeadersError("these bytes are no headers")
