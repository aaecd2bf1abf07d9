"""Makes bad inputs out of good ones: bits, integers, lengths, tokens, pieces; each from its number.

An input is a function of seed and number alone, so that whatever it breaks can be made again.
"""

import random
import zlib
from collections.abc import Callable, Sequence

_NUM_CHANGES = (1, 1, 1, 1, 2, 2, 3, 8)
"""Mostly few: behind the first check that fails nothing is reached."""
_MOST_BYTES = 64 << 10
_SHARE_OF_NOISE = 0.05
_PNG_START = b"\x89PNG\r\n\x1a\n"
_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_TOKENS = (
    *b"null true false NaN Infinity -1 0 1e999 1e-999 -0.0 [] {} [[]] \"\" '' ~ .inf 0x10".split(),
    b"99999999999999999999999",
    b"1" + b"0" * 5000,
    b"\x00",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    "\u202e\u00e9\U0001f600".encode(),
    b"../../etc/passwd",
    b"{" * 300,
    b"[" * 300,
    b"(" * 300,
    b"&a [*a]",
    b"!!python/object/apply:os.getpid []",
    b"\\u0000",
    b"\n",
    b": ",
    b"- ",
    b",",
    b'"',
)

Change = Callable[[bytearray, random.Random], None]


def mutated(seeds: Sequence[bytes], *, seed: int, number: int) -> bytes:
    """Return the so-and-so-many-th bad input; now and then it is good, or noise."""
    rng = random.Random(f"{seed}/{number}")
    if rng.random() < _SHARE_OF_NOISE:
        return rng.randbytes(rng.randrange(300))
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.choice(_NUM_CHANGES)):
        if rng.random() < 0.1:
            _splice(data, rng.choice(seeds), rng)
        else:
            rng.choice(_CHANGES)(data, rng)
        del data[_MOST_BYTES:]
    if data.startswith(_PNG_START) and rng.random() < 0.7:
        return _with_checksums(bytes(data))
    return bytes(data)


def _at(data: bytearray, rng: random.Random) -> int:
    # Headers lie at the beginning, and are what parsers act on.
    most = len(data) if rng.random() < 0.5 else min(len(data), 64)
    return rng.randrange(most + 1)


def _flip(data: bytearray, rng: random.Random) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _set_byte(data: bytearray, rng: random.Random) -> None:
    at = _at(data, rng)
    data[at : at + 1] = bytes([rng.randrange(256)])


def _set_integer(data: bytearray, rng: random.Random) -> None:
    width = rng.choice((1, 2, 3, 4, 8))
    value = (rng.choice(_EXTREMES) + rng.choice((-1, 0, 0, 1))) % (1 << 8 * width)
    at = _at(data, rng)
    data[at : at + width] = value.to_bytes(width, rng.choice(("big", "little")))


def _delete(data: bytearray, rng: random.Random) -> None:
    at = _at(data, rng)
    del data[at : at + rng.randint(1, 40)]


def _truncate(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data) + 1) :]


def _insert_noise(data: bytearray, rng: random.Random) -> None:
    at = _at(data, rng)
    data[at:at] = rng.randbytes(rng.randint(1, 20))


def _insert_token(data: bytearray, rng: random.Random) -> None:
    at = _at(data, rng)
    data[at:at] = rng.choice(_TOKENS)


def _replace_number(data: bytearray, rng: random.Random) -> None:
    places = [at for at, byte in enumerate(data) if 0x30 <= byte <= 0x39]
    if places:
        start = end = rng.choice(places)
        while end < len(data) and 0x30 <= data[end] <= 0x39:
            end += 1
        data[start:end] = rng.choice(_TOKENS)


def _repeat(data: bytearray, rng: random.Random) -> None:
    at = _at(data, rng)
    part = data[at : at + rng.randint(1, 60)]
    data[at:at] = part * rng.choice((1, 2, 10, 300))


def _swap(data: bytearray, rng: random.Random) -> None:
    one, other = sorted((_at(data, rng), _at(data, rng)))
    length = rng.randint(1, 20)
    part = data[one : one + length]
    data[one : one + length] = data[other : other + length]
    data[other : other + length] = part


def _splice(data: bytearray, other: bytes, rng: random.Random) -> None:
    at = _at(data, rng)
    start = rng.randrange(len(other) + 1)
    data[at:] = other[start:]


_CHANGES: tuple[Change, ...] = (
    _flip,
    _flip,
    _set_byte,
    _set_integer,
    _set_integer,
    _delete,
    _truncate,
    _insert_noise,
    _insert_token,
    _replace_number,
    _repeat,
    _swap,
)


def _with_checksums(data: bytes) -> bytes:
    """Return a PNG with the checksums of its chunks mended, so that what is in them is read."""
    parts, at = [_PNG_START], len(_PNG_START)
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4])
        end = at + 8 + length
        if end + 4 > len(data):
            break
        body = data[at + 4 : end]
        parts += [data[at : at + 4], body, zlib.crc32(body).to_bytes(4)]
        at = end + 4
    return b"".join([*parts, data[at:]])
