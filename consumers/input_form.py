"""The form of the network's inputs, and how arrays are brought into it.

Legend: N instances, X any axes, C channels, H height, W width, F features.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from teacherd.consumers.instance import Array, RejectionError

_GRAY, _COLOR = 1, 3
_IMAGE_NDIM = 3
_MAX_LEVEL = 255
# Rounded fixed-point ITU-R 601 weights, those of Pillow: an array and a PNG of it give the same.
_LUMA_WEIGHTS = np.array([19595, 38470, 7471], dtype=np.uint32)
_LUMA_HALF, _LUMA_SHIFT = np.uint32(0x8000), np.uint32(16)


class Conformed(NamedTuple):
    """Arrays in the network's form, and which of them are no inputs after all."""

    rows: Array
    """uint8 [N,C,H,W] or float32 [N,F]; perhaps a view of what was given."""
    is_bad: npt.NDArray[np.bool_]
    """[N]"""


class InputForm:
    """Images (C,H,W) as uint8, or features (F,) as float32.

    Args:
        shape: Shape of one input, without the batch axis.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        if len(shape) not in (1, _IMAGE_NDIM) or min(shape) < 1:
            raise ValueError(
                f"input_shape: {shape}: must be (C, H, W) or (F,), all above 0; give the network's"
            )
        self.shape = tuple(shape)
        self.is_image = len(shape) == _IMAGE_NDIM

    @property
    def rejection(self) -> RejectionError:
        """Return why an array that `conform` marks as bad is no input."""
        if self.is_image:
            return RejectionError("out_of_range", "the array holds numbers outside 0 to 255")
        return RejectionError("not_finite", "the features hold NaN or infinity, as float32")

    def check(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> None:
        """See whether arrays of this shape and type can be brought into the form.

        Images are integers of 0 to 255 as [H,W], [H,W,C] or [C,H,W], at the network's height and
        width; gray and colour are converted into each other. Features are real numbers [F].

        Raises:
            RejectionError: They cannot.
        """
        if dtype.kind == "O":
            raise RejectionError("pickle", "the array holds Python objects")
        if dtype.kind not in ("iu" if self.is_image else "biuf"):
            wanted = "integers from 0 to 255" if self.is_image else "real numbers"
            raise RejectionError("wrong_dtype", f"the array holds {dtype}; inputs are {wanted}")
        fits = self._channels_axis(shape) is not None if self.is_image else shape == self.shape
        if not fits:
            raise RejectionError(
                "wrong_shape", f"the array is {list(shape)[:8]}, the network takes {[*self.shape]}"
            )

    def conform(self, rows: npt.NDArray[np.generic]) -> Conformed:
        """Bring arrays [N, X] that `check` let pass into the form."""
        return self._images(rows) if self.is_image else self._features(rows)

    def _features(self, rows_NF: npt.NDArray[np.generic]) -> Conformed:
        with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is found below
            features_NF = rows_NF.astype(np.float32, copy=False)
        return Conformed(features_NF, np.logical_not(np.isfinite(features_NF).all(axis=1)))

    def _images(self, rows: npt.NDArray[np.generic]) -> Conformed:
        is_bad = np.zeros(len(rows), dtype=np.bool_)
        if rows.dtype != np.uint8:
            axes = tuple(range(1, rows.ndim))
            numbers: npt.NDArray[np.integer] = rows  # type: ignore[assignment]  # check saw to it
            is_bad = (numbers.min(axis=axes) < 0) | (numbers.max(axis=axes) > _MAX_LEVEL)
            rows = rows.astype(np.uint8)
        axis = self._channels_axis(rows.shape[1:])
        assert axis is not None, "check lets only images pass"
        if rows.ndim == _IMAGE_NDIM:
            rows = rows[:, np.newaxis]
        elif axis != 0:
            rows = rows.transpose(0, 3, 1, 2)
        images_NCHW: npt.NDArray[np.uint8] = rows  # type: ignore[assignment]  # converted above
        return Conformed(self._with_channels(images_NCHW), is_bad)

    def _with_channels(self, images_NCHW: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        wanted, given = self.shape[0], images_NCHW.shape[1]
        if wanted == given:
            return images_NCHW
        if given == _GRAY:
            return np.repeat(images_NCHW, wanted, axis=1)
        return luma(images_NCHW)

    def _channels_axis(self, shape: tuple[int, ...]) -> int | None:
        """Return where an image of this shape has its channels (0 where it has none), or None."""
        channels, *size = self.shape
        allowed = {channels} | ({_GRAY, _COLOR} if channels in (_GRAY, _COLOR) else set())
        if list(shape) == size and _GRAY in allowed:
            return 0
        if len(shape) != _IMAGE_NDIM:
            return None
        if list(shape[1:]) == size and shape[0] in allowed:
            return 0
        return 2 if list(shape[:2]) == size and shape[2] in allowed else None


def luma(images_NCHW: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the gray [N,1,H,W] of coloured [N,3,H,W], bit for bit as Pillow makes it."""
    weighted = np.einsum("nchw,c->nhw", images_NCHW.astype(np.uint32), _LUMA_WEIGHTS)
    gray_NHW: npt.NDArray[np.uint8] = ((weighted + _LUMA_HALF) >> _LUMA_SHIFT).astype(np.uint8)
    return gray_NHW[:, np.newaxis]
