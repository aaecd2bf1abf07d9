"""Turns records into instances, in batches and within limits; what is bad becomes a value."""

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from teacherd.consumers.custom_decoder import PATH_RULE, CustomDecoder
from teacherd.consumers.description import Description, DescriptionReader
from teacherd.consumers.image_decoding import (
    IMAGE_CONTENT_TYPES,
    ImageLimits,
    decode_image,
    image_content_type,
)
from teacherd.consumers.input_form import InputForm
from teacherd.consumers.instance import Array, Instance, Rejected, RejectionError
from teacherd.consumers.json_decoding import read_json
from teacherd.consumers.npy_decoding import NpyLayout, npy_layout, npy_rows
from teacherd.consumers.record import Record

_NPY = "application/x-npy"
_JSON = "application/json"
_MAX_THREADS = 4
_MIN_BYTES_PER_THREAD = 1 << 18
"""Below this a thread's turn of the interpreter lock costs more than its decoding saves."""
_PATH = re.compile(r"[^\d\W]\w*(\.[^\d\W]\w*)*:[^\d\W]\w*")

_LARGE_RECORD_BYTES = 1 << 14
"""Mean size from which records are worth decoding in threads."""
_SHOWN_CHARACTERS = 80

Result = Instance | Rejected

_Waiting = tuple[int, Description, bytes]
"""Place in the batch, what its headers say, value."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodingConfig:
    """How records are decoded, and what they may ask for."""

    decoder: str | None = None
    """The user's own decoder as package.module:callable, called with the record, returning
    (array, label); null reads the formats of docs/records.md."""
    max_record_bytes: int = 8 << 20
    """Longest value; 8 MiB holds a photograph as its camera stores it."""
    max_pixels: int = 1 << 24
    """Largest image, in pixels; 16 million are 48 MiB while they are decoded."""
    max_dimension: int = 16384
    """Longest side of an image, in pixels."""
    num_threads: int = 0
    """Threads that decode large images; 0 takes one for each core, at most 4."""

    def __post_init__(self) -> None:
        """Check what the types cannot say."""
        for name in ("max_record_bytes", "max_pixels", "max_dimension"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)}: must be above 0; raise it")
        if self.num_threads < 0:
            raise ValueError(
                f"num_threads: {self.num_threads}: must not be negative; 0 chooses by the cores"
            )
        if self.decoder is not None and not _PATH.fullmatch(self.decoder):
            raise ValueError(
                f"decoder: {self.decoder!r}: must be {PATH_RULE}; use null for the built-in formats"
            )


class Decoder:
    """Decodes records for one network; never raises for what a record holds.

    Args:
        input_shape: (C,H,W) or (F,), as the network takes it.
        classes: Names, in the order of the network's outputs.

    Raises:
        ValueError: The user's decoder cannot be imported.
    """

    def __init__(
        self, config: DecodingConfig, *, input_shape: tuple[int, ...], classes: Sequence[str]
    ) -> None:
        self._max_record_bytes = config.max_record_bytes
        self._limits = ImageLimits(max_pixels=config.max_pixels, max_dimension=config.max_dimension)
        self._form = InputForm(input_shape)
        self._reader = DescriptionReader(classes)
        self._custom = None if config.decoder is None else CustomDecoder(config.decoder)
        self._num_threads = config.num_threads or min(_MAX_THREADS, os.cpu_count() or 1)
        self._pool = ThreadPoolExecutor(self._num_threads, thread_name_prefix="decoding")

    def decode(self, record: Record) -> Result:
        """Return what one record is."""
        return self._decode_part([record])[0]

    def decode_batch(self, records: Sequence[Record]) -> list[Result]:
        """Return what each record is, in their order."""
        num_parts = self._num_parts(records)
        if num_parts == 1:
            return self._decode_part(records)
        bounds = [place * len(records) // num_parts for place in range(num_parts + 1)]
        parts = [records[low:high] for low, high in pairwise(bounds)]
        return [result for part in self._pool.map(self._decode_part, parts) for result in part]

    def close(self) -> None:
        """Let the threads end."""
        self._pool.shutdown()

    def _num_parts(self, records: Sequence[Record]) -> int:
        if self._num_threads == 1 or self._custom is not None:
            return 1
        num_bytes = sum([len(record.value) for record in records])
        if num_bytes < len(records) * _LARGE_RECORD_BYTES:
            return 1
        return max(1, min(self._num_threads, len(records), num_bytes // _MIN_BYTES_PER_THREAD))

    def _decode_part(self, records: Sequence[Record]) -> list[Result]:
        results: list[Result | None] = [None] * len(records)
        waiting: dict[NpyLayout, list[_Waiting]] = {}
        for place, record in enumerate(records):
            try:
                description = self._describe(record)
                if description.content_type == _NPY and self._custom is None:
                    layout = npy_layout(record.value)
                    waiting.setdefault(layout, []).append((place, description, record.value))
                else:
                    results[place] = self._decode_one(record, description)
            except RejectionError as error:
                results[place] = error.rejected
        for layout, group in waiting.items():
            decoded = self._decode_arrays(layout, group)
            for (place, _, _), result in zip(group, decoded, strict=True):
                results[place] = result
        return [result for result in results if result is not None]

    def _describe(self, record: Record) -> Description:
        """Read the headers; refuse what no decoder is to see."""
        num_bytes = len(record.value)
        if not 0 < num_bytes <= self._max_record_bytes:
            if num_bytes == 0:
                raise RejectionError("empty", "the value is empty")
            raise RejectionError(
                "too_large",
                f"the value has {num_bytes} bytes; the limit is {self._max_record_bytes}",
            )
        description = self._reader.read(record)
        if description.label is None and self._custom is None and description.content_type != _JSON:
            raise RejectionError("missing_label", "there is no label header")
        return description

    def _decode_arrays(self, layout: NpyLayout, group: list[_Waiting]) -> list[Result]:
        """Decode arrays with the same header all at once."""
        try:
            self._form.check(layout.shape, layout.dtype)
        except RejectionError as error:
            return [error.rejected] * len(group)
        rows, is_bad = self._form.conform(npy_rows(layout, [value for _, _, value in group]))
        results: list[Result] = [
            Instance(row, _label_of(description), description.id, description.event_time_ms)
            for row, (_, description, _) in zip(rows, group, strict=True)
        ]
        for place in np.flatnonzero(is_bad):
            results[place] = self._form.rejection.rejected
        return results

    def _decode_one(self, record: Record, description: Description) -> Instance:
        if self._custom is not None:
            array, label = self._custom.decode(record)
            return self._instance(self._conform(array), self._reader.place(label), description)
        content_type = description.content_type
        if content_type in IMAGE_CONTENT_TYPES:
            return self._instance(
                self._image(record.value, content_type), _label_of(description), description
            )
        if content_type == _JSON:
            return self._decode_json(record, description)
        raise RejectionError(
            "unknown_content_type",
            f"the content-type {ascii(content_type)[:_SHOWN_CHARACTERS]} is none that is decoded",
        )

    def _decode_json(self, record: Record, description: Description) -> Instance:
        body = read_json(record.value)
        label = description.label
        if label is None:
            if body.label is None:
                raise RejectionError("missing_label", "neither headers nor body have a label")
            label = self._reader.place(body.label)
        if body.features is not None:
            return self._instance(self._conform(body.features), label, description)
        image = body.image or b""
        content_type = image_content_type(image)
        if content_type is None:
            raise RejectionError("malformed", "`image` holds neither PNG nor JPEG nor WebP")
        return self._instance(self._image(image, content_type), label, description)

    def _image(self, value: bytes, content_type: str) -> Array:
        return decode_image(value, content_type, self._limits, self._form.shape)

    def _conform(self, array: npt.NDArray[np.generic]) -> Array:
        self._form.check(array.shape, array.dtype)
        rows, is_bad = self._form.conform(array[np.newaxis])
        if is_bad[0]:
            raise self._form.rejection
        row: Array = rows[0]
        return row

    @staticmethod
    def _instance(array: Array, label: int, description: Description) -> Instance:
        return Instance(array, label, description.id, description.event_time_ms)


def _label_of(description: Description) -> int:
    assert description.label is not None, "a record without label header got this far"
    return description.label
