"""PNG, JPEG and WebP into the network's form; sizes are checked before pixels are made.

Legend: C channels, H height, W width.
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from teacherd.consumers.instance import RejectionError

_MODES = {1: "L", 3: "RGB"}
_SIXTEEN_BIT_MODES = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N"})
_LEVELS_16 = 0xFFFF

_START_OF_SCAN = b"\xff\xda"
_MAX_SCANS = 200
"""Encoders make a dozen. Each costs a pass over all pixels, and thirty bytes can ask for one."""

_WEBP_HEADER_BYTES = {b"VP8X": 30, b"VP8L": 25, b"VP8 ": 30}
_WEBP_14_BITS = 0x3FFF


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageLimits:
    """What an image may ask for before memory is given to it."""

    max_pixels: int
    max_dimension: int

    def check(self, width: int, height: int) -> None:
        """Refuse an image of this size if it is too large.

        Raises:
            RejectionError: It is.
        """
        if max(width, height) > self.max_dimension or width * height > self.max_pixels:
            raise RejectionError(
                "too_many_pixels",
                f"the image is {width} x {height}; the limits are {self.max_pixels} pixels and "
                f"{self.max_dimension} a side",
            )


def decode_image(
    value: bytes, content_type: str, limits: ImageLimits, shape: tuple[int, ...]
) -> npt.NDArray[np.uint8]:
    """Return the first frame of an encoded image as uint8 of this shape, (C,H,W), C 1 or 3.

    Raises:
        RejectionError: It is cut short, broken, or asks for too much.
    """
    if len(shape) != len("CHW") or shape[0] not in _MODES:
        raise RejectionError("wrong_shape", f"an image cannot become an input of {list(shape)}")
    try:
        if content_type == "image/webp":
            # Pillow has libwebp allocate the canvas on opening.
            limits.check(*webp_size(value))
        if content_type == "image/jpeg":
            _check_scans(value)
        image = _OPENERS[content_type](io.BytesIO(value))
        limits.check(*image.size)
        return _to_array(image, shape)
    except (RejectionError, MemoryError):
        raise
    except Exception as error:
        # Whatever a broken file makes of Pillow's readers; there is no list of what they raise.
        is_short = isinstance(error, EOFError) or "truncated" in str(error).lower()
        raise RejectionError(
            "truncated" if is_short else "malformed",
            f"{content_type} cannot be decoded: {type(error).__name__}",
        ) from error


def image_content_type(value: bytes) -> str | None:
    """Tell by its first bytes what an encoded image is; None if none that can be decoded."""
    if value.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if value.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if value.startswith(b"RIFF") and value[8:12] == b"WEBP":
        return "image/webp"
    return None


def webp_size(value: bytes) -> tuple[int, int]:
    """Return width and height from a WebP header, without decoding.

    Raises:
        RejectionError: It has no such header.
    """
    kind = value[12:16] if image_content_type(value) == "image/webp" else b""
    if len(value) < _WEBP_HEADER_BYTES.get(kind, 0):
        raise RejectionError("truncated", "the WebP header is cut short")
    if kind == b"VP8X":
        width, height = value[24:27], value[27:30]
        return 1 + int.from_bytes(width, "little"), 1 + int.from_bytes(height, "little")
    if kind == b"VP8L":
        bits = int.from_bytes(value[21:25], "little")
        return 1 + (bits & _WEBP_14_BITS), 1 + (bits >> 14 & _WEBP_14_BITS)
    if kind == b"VP8 ":
        width, height = value[26:28], value[28:30]
        return (
            int.from_bytes(width, "little") & _WEBP_14_BITS,
            int.from_bytes(height, "little") & _WEBP_14_BITS,
        )
    raise RejectionError("malformed", "the value does not begin as WebP does")


def _check_scans(value: bytes) -> None:
    num_scans = value.count(_START_OF_SCAN)
    if num_scans > _MAX_SCANS:
        raise RejectionError(
            "malformed", f"the JPEG has {num_scans} scans; no more than {_MAX_SCANS} are decoded"
        )


def _to_array(image: ImageFile, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    channels, height, width = shape
    mode = _MODES[channels]
    pixels: Image.Image = image
    if image.mode != mode:
        pixels = _to_eight_bits(image).convert(mode)
    if pixels.size != (width, height):
        pixels = pixels.resize((width, height), Image.Resampling.BILINEAR)
    array_HWC = np.frombuffer(pixels.tobytes(), np.uint8).reshape(height, width, channels)
    return array_HWC.transpose(2, 0, 1)


def _to_eight_bits(image: Image.Image) -> Image.Image:
    if image.mode in _SIXTEEN_BIT_MODES:
        # Pillow's own conversion would clip nearly all of it to white.
        values = np.clip(np.asarray(image), 0, _LEVELS_16)
        return Image.fromarray((values >> 8).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        # Straight to RGB Pillow would warn; alpha is dropped either way.
        return image.convert("RGBA")
    return image


# The plugins themselves: Image.open would ask all of them in turn, also those not wanted.
_OPENERS: Mapping[str, Callable[[io.BytesIO], ImageFile]] = MappingProxyType(
    {"image/png": PngImageFile, "image/jpeg": JpegImageFile, "image/webp": WebPImageFile}
)
IMAGE_CONTENT_TYPES = frozenset(_OPENERS)
