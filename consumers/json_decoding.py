"""JSON bodies: an image as base64, or a list of features; both may carry the label."""

import base64
import binascii
import json
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from teacherd.consumers.instance import RejectionError


class JsonBody(NamedTuple):
    """What a body holds; exactly one of image and features is there."""

    image: bytes | None
    features: npt.NDArray[np.float64] | None
    label: str | int | None


def read_json(value: bytes) -> JsonBody:
    """Read a body.

    Raises:
        RejectionError: It is none.
    """
    body = _parse(value)
    image, features = body.get("image"), body.get("features")
    if (image is None) == (features is None):
        raise RejectionError("malformed", "the body needs either `image` or `features`")
    return JsonBody(
        image=None if image is None else _image(image),
        features=None if features is None else _features(features),
        label=_label(body.get("label")),
    )


def _parse(value: bytes) -> dict[str, object]:
    try:
        body = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise RejectionError("malformed", "the value is no JSON") from error
    if not isinstance(body, dict):
        raise RejectionError("malformed", "the JSON is no object")
    return body


def _label(label: object) -> str | int | None:
    if label is None or (isinstance(label, str | int) and not isinstance(label, bool)):
        return label
    raise RejectionError("unknown_label", "`label` is neither a name nor an index")


def _image(image: object) -> bytes:
    if not isinstance(image, str):
        raise RejectionError("malformed", "`image` is no base64 string")
    try:
        return base64.b64decode(image, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RejectionError("malformed", "`image` is no base64") from error


def _features(features: object) -> npt.NDArray[np.float64]:
    if not isinstance(features, list):
        raise RejectionError("malformed", "`features` is no list")
    if any(type(number) not in (int, float) for number in features):
        raise RejectionError("wrong_dtype", "`features` holds something else than numbers")
    try:
        return np.array(features, dtype=np.float64)
    except OverflowError as error:
        raise RejectionError("not_finite", "`features` holds a number beyond any float") from error
