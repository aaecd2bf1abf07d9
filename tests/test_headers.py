"""Tests of headers as bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teacherd.consumers.headers import Headers, HeadersError, pack_headers, unpack_headers

HEADERS = st.lists(st.tuples(st.text(max_size=20), st.binary(max_size=30)), max_size=6).map(tuple)


@given(HEADERS)
def test_packed_headers_come_back_as_they_were(headers: Headers) -> None:
    """Order, repeated names, empty names and empty values included."""
    assert headers == unpack_headers(pack_headers(headers))


@given(HEADERS, HEADERS)
def test_different_headers_are_packed_differently(first: Headers, second: Headers) -> None:
    """The bytes can stand for the headers in a digest."""
    assert (first == second) == (pack_headers(first) == pack_headers(second))


@given(st.binary(max_size=60))
def test_arbitrary_bytes_are_headers_or_an_error(packed: bytes) -> None:
    """Nothing else is raised, and what is read is all of it."""
    try:
        headers = unpack_headers(packed)
    except HeadersError:
        return

    assert packed == pack_headers(headers)


@given(HEADERS.filter(len), st.data())
def test_headers_cut_short_are_an_error(headers: Headers, data: st.DataObject) -> None:
    """A part of packed headers is never taken for others, except for none at all."""
    packed = pack_headers(headers)
    length = data.draw(st.integers(1, len(packed) - 1))

    with pytest.raises(HeadersError):
        unpack_headers(packed[:length])


@pytest.mark.parametrize("name", ["n" * 70_000, "\ud800"])
def test_a_name_that_cannot_be_packed_is_an_error(name: str) -> None:
    """Too long, or no UTF-8: told to the producer."""
    with pytest.raises(HeadersError):
        pack_headers(((name, b""),))
