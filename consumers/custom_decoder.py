"""The user's own decoder, found by its import path and kept from harming the daemon."""

import importlib
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from teacherd.consumers.instance import RejectionError
from teacherd.consumers.record import Record

PATH_RULE = "package.module:callable"


class Decoded(NamedTuple):
    """What a user's decoder returned, checked."""

    array: npt.NDArray[np.generic]
    label: str | int
    """Name or index of a class."""


class CustomDecoder:
    """Calls `package.module:callable` as callable(record) -> (array, label).

    Raises:
        ValueError: There is nothing to call under this path.
    """

    def __init__(self, path: str) -> None:
        self._function = _load(path)

    def decode(self, record: Record) -> Decoded:
        """Return what the user's decoder makes of a record.

        Raises:
            RejectionError: It raised anything, or returned something else.
        """
        try:
            returned = self._function(record)
        except MemoryError:
            raise
        except Exception as error:
            # Nothing is known of the user's code.
            raise RejectionError("decoder_error", _where(error)) from error
        return _checked(returned)


def _load(path: str) -> Callable[[Record], object]:
    module_name, _, name = path.partition(":")
    problem = f"decoder: {path!r}: must be {PATH_RULE} that can be imported"
    try:
        function = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{problem}: {error}; install it where the daemon runs") from error
    if not callable(function):
        raise ValueError(  # noqa: TRY004 - what the user typed is a ValueError everywhere
            f"{problem}; {name} is a {type(function).__name__}, give a function"
        )
    return function  # type: ignore[no-any-return]  # getattr knows no types; results are checked


def _where(error: Exception) -> str:
    """Say what was raised and where; its text is left out, because it may repeat the payload."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"the decoder raised {type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"
    )


def _checked(returned: object) -> Decoded:
    if not isinstance(returned, tuple) or len(returned) != len(Decoded._fields):
        raise RejectionError("decoder_error", "the decoder did not return (array, label)")
    array, label = returned
    if isinstance(label, np.integer):
        label = int(label)
    if not isinstance(label, str | int) or isinstance(label, bool):
        raise RejectionError("decoder_error", "the decoder's label is neither str nor int")
    if not isinstance(array, np.ndarray):
        raise RejectionError("decoder_error", "the decoder's array is no numpy array")
    # A copy: the next call may write to the same memory. A plain one: subclasses have other rules.
    return Decoded(np.array(array), label)
