"""Turns records into instances, in batches and within limits; what is bad becomes a value."""

import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from teacherd.consumers.custom_decoder import PATH_RULE, CustomDecoder
from teacherd.consumers.decoded_batch import DecodedBatch, Result, Rows
from teacherd.consumers.description import NO_LABEL, DescriptionReader, Descriptions
from teacherd.consumers.image_decoding import (
    IMAGE_CONTENT_TYPES,
    ImageLimits,
    decode_image,
    image_content_type,
)
from teacherd.consumers.input_form import InputForm
from teacherd.consumers.instance import NAMED, Array, Rejected, RejectionError
from teacherd.consumers.json_decoding import read_json
from teacherd.consumers.npy_decoding import NpyLayout, npy_layout, npy_rows, shared_layout
from teacherd.consumers.record import Record
from teacherd.consumers.record_batch import RecordBatch

NPY = "application/x-npy"
JSON = "application/json"
_MAX_THREADS = 4
_MIN_BYTES_PER_THREAD = 1 << 18
"""Below this a thread's turn of the interpreter lock costs more than its decoding saves."""
_PATH = re.compile(r"[^\d\W]\w*(\.[^\d\W]\w*)*:[^\d\W]\w*")

_LARGE_RECORD_BYTES = 1 << 14
"""Mean size from which records are worth decoding in threads."""
_SHOWN_CHARACTERS = 80


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodingConfig:
    """How records are decoded, and what they may ask for."""

    decoder: str | None = None
    """The user's own decoder as package.module:callable, called with the record, returning
    (array, label); null reads the formats of docs/records.md."""
    max_record_bytes: int = 8 << 20
    """Longest value; 8 MiB holds a photograph as its camera stores it."""
    max_header_bytes: int = 8 << 10
    """Longest headers together, names included; as much as web servers take."""
    max_pixels: int = 1 << 24
    """Largest image, in pixels; 16 million are 48 MiB while they are decoded."""
    max_dimension: int = 16384
    """Longest side of an image, in pixels."""
    num_threads: int = 0
    """Threads that decode large images; 0 takes one for each core, at most 4."""

    def __post_init__(self) -> None:
        """Check what the types cannot say."""
        for name in ("max_record_bytes", "max_header_bytes", "max_pixels", "max_dimension"):
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
        has_open_labels: Whether a label that is none of them is taken for the name of another.

    Raises:
        ValueError: The user's decoder cannot be imported.
    """

    def __init__(
        self,
        config: DecodingConfig,
        *,
        input_shape: tuple[int, ...],
        classes: Sequence[str],
        has_open_labels: bool = False,
    ) -> None:
        self._max_record_bytes = config.max_record_bytes
        self._limits = ImageLimits(max_pixels=config.max_pixels, max_dimension=config.max_dimension)
        self._form = InputForm(input_shape)
        self._custom = None if config.decoder is None else CustomDecoder(config.decoder)
        self._reader = DescriptionReader(
            classes,
            max_header_bytes=config.max_header_bytes,
            reads_labels=self._custom is None,
            has_open_labels=has_open_labels,
        )
        self._num_threads = config.num_threads or min(_MAX_THREADS, os.cpu_count() or 1)
        self._pool = ThreadPoolExecutor(self._num_threads, thread_name_prefix="decoding")

    def decode(self, record: Record) -> Result:
        """Return what one record is."""
        (result,) = self.decode_batch(RecordBatch.of([record]))
        return result

    def decode_batch(self, batch: RecordBatch) -> DecodedBatch:
        """Return what each record is."""
        num_parts = self._num_parts(batch)
        if num_parts == 1:
            return self._decode_part(batch)
        bounds = [place * len(batch) // num_parts for place in range(num_parts + 1)]
        parts = [batch.part(low, high) for low, high in pairwise(bounds)]
        return DecodedBatch.joined(list(self._pool.map(self._decode_part, parts)))

    def close(self) -> None:
        """Let the threads end."""
        self._pool.shutdown()

    def _num_parts(self, batch: RecordBatch) -> int:
        """Return into how many parts to cut a batch, one for a thread."""
        if self._num_threads == 1 or self._custom is not None:
            return 1
        num_bytes = batch.num_bytes
        if num_bytes < len(batch) * _LARGE_RECORD_BYTES:
            return 1
        return max(1, min(self._num_threads, len(batch), num_bytes // _MIN_BYTES_PER_THREAD))

    def _decode_part(self, batch: RecordBatch) -> DecodedBatch:
        descriptions = self._reader.read(batch.headers, batch.timestamps_ms)
        gathered = _Gathered(descriptions)
        self._refuse_lengths(batch.values, gathered.rejected)
        arrays, others = self._kinds(descriptions, gathered.rejected)
        if arrays:
            self._decode_arrays(arrays, batch.values, gathered)
        for place in others:
            try:
                array, label = self._decode_one(batch, place, descriptions)
                gathered.add([place], [array])
                gathered.set_label(place, label)
            except RejectionError as error:
                gathered.rejected[place] = error.rejected
        return gathered.build()

    def _refuse_lengths(self, values: Sequence[bytes], rejected: dict[int, Rejected]) -> None:
        lengths = list(map(len, values))
        limit = self._max_record_bytes
        if min(lengths) > 0 and max(lengths) <= limit:
            return
        for place, length in enumerate(lengths):
            if length == 0:
                rejected[place] = Rejected("empty", "the value is empty")
            elif length > limit:
                rule = f"the value has {length} bytes; the limit is {limit}"
                rejected[place] = Rejected("too_large", rule)

    def _kinds(
        self, descriptions: Descriptions, rejected: dict[int, Rejected]
    ) -> tuple[Sequence[int], Sequence[int]]:
        """Return the places of arrays, which are decoded together, and those of all others."""
        types, labels = descriptions.content_types, descriptions.labels
        places: Sequence[int] = range(len(types))
        if self._custom is None and NO_LABEL in labels:
            for place in places:
                if labels[place] == NO_LABEL and types[place] != JSON and place not in rejected:
                    rejected[place] = Rejected("missing_label", "there is no label header")
        if rejected:
            places = [place for place in places if place not in rejected]
        if self._custom is not None:
            return (), places
        if set(types) == {NPY}:
            return places, ()
        arrays = [place for place in places if types[place] == NPY]
        return arrays, [place for place in places if types[place] != NPY]

    def _decode_arrays(
        self, places: Sequence[int], values: Sequence[bytes], gathered: "_Gathered"
    ) -> None:
        """Decode arrays, those with the same header all at once."""
        arrays = values
        if len(places) < len(values):
            arrays = [values[place] for place in places]
        layout = shared_layout(arrays)
        layouts: Mapping[NpyLayout, Sequence[int]] = (
            {layout: places} if layout is not None else _layouts(places, arrays, gathered.rejected)
        )
        for layout, group in layouts.items():
            try:
                self._form.check(layout.shape, layout.dtype)
            except RejectionError as error:
                gathered.rejected.update(dict.fromkeys(group, error.rejected))
                continue
            same = arrays if group is places else [values[place] for place in group]
            rows, is_bad = self._form.conform(npy_rows(layout, same))
            if is_bad.any():
                bad = [place for place, each in zip(group, is_bad, strict=True) if each]
                gathered.rejected.update(dict.fromkeys(bad, self._form.rejection.rejected))
                good = [place for place, each in zip(group, is_bad, strict=True) if not each]
                gathered.add(good, rows[np.logical_not(is_bad)])
            else:
                gathered.add(group, rows)

    def _decode_one(
        self, batch: RecordBatch, place: int, descriptions: Descriptions
    ) -> tuple[Array, int | str]:
        """Return array and label, or the name of its class, of what is decoded by itself."""
        if self._custom is not None:
            decoded = self._custom.decode(batch.record(place))
            return self._conform(decoded.array), self._reader.place(decoded.label)
        value, content_type = batch.values[place], descriptions.content_types[place]
        label = descriptions.labels[place]
        if content_type == JSON:
            return self._decode_json(value, label)
        if content_type in IMAGE_CONTENT_TYPES:
            return self._image(value, content_type), label
        shown = ascii(content_type)[:_SHOWN_CHARACTERS]
        raise RejectionError(
            "unknown_content_type", f"the content-type {shown} is none that is decoded"
        )

    def _decode_json(self, value: bytes, place: int) -> tuple[Array, int | str]:
        body = read_json(value)
        label: int | str = place
        if label == NO_LABEL:
            if body.label is None:
                raise RejectionError("missing_label", "neither headers nor body have a label")
            label = self._reader.place(body.label)
        if body.features is not None:
            return self._conform(body.features), label
        image = body.image or b""
        content_type = image_content_type(image)
        if content_type is None:
            raise RejectionError("malformed", "`image` holds neither PNG nor JPEG nor WebP")
        return self._image(image, content_type), label

    def _image(self, value: bytes, content_type: str) -> Array:
        return decode_image(value, content_type, self._limits, self._form.shape)

    def _conform(self, array: npt.NDArray[np.generic]) -> Array:
        self._form.check(array.shape, array.dtype)
        rows, is_bad = self._form.conform(array[np.newaxis])
        if is_bad[0]:
            raise self._form.rejection
        row: Array = rows[0]
        return row


class _Gathered:
    """Collects what becomes of the records of a batch, in any order."""

    def __init__(self, descriptions: Descriptions) -> None:
        self.descriptions = descriptions
        self.rejected = descriptions.rejected
        self.blocks: list[tuple[Sequence[int], Rows]] = []
        self.labels = list(descriptions.labels)
        self.named = descriptions.named

    def add(self, places: Sequence[int], rows: Rows) -> None:
        if places:
            self.blocks.append((places, rows))

    def set_label(self, place: int, label: int | str) -> None:
        if isinstance(label, str):
            self.named[place] = label
            label = NAMED
        self.labels[place] = label

    def build(self) -> DecodedBatch:
        rejected = dict(sorted(self.rejected.items()))
        if not self.blocks:
            return DecodedBatch((), (), (), (), (), rejected)
        places, rows = self._merged()
        ids, times_ms = self.descriptions.ids, self.descriptions.event_times_ms
        labels = self.labels
        named = {place: self.named[place] for place in sorted(self.named) if place not in rejected}
        if rejected:
            ids = [ids[place] for place in places]
            times_ms = [times_ms[place] for place in places]
            labels = [labels[place] for place in places]
        return DecodedBatch(places, rows, labels, ids, times_ms, rejected, named)

    def _merged(self) -> tuple[Sequence[int], Rows]:
        """Return places and rows in order."""
        if len(self.blocks) == 1:
            return self.blocks[0]
        rows = {
            place: row
            for places, block in self.blocks
            for place, row in zip(places, block, strict=True)
        }
        in_order = sorted(rows)
        return in_order, [rows[place] for place in in_order]


def _layouts(
    places: Sequence[int], arrays: Sequence[bytes], rejected: dict[int, Rejected]
) -> Mapping[NpyLayout, Sequence[int]]:
    """Return which arrays have which header."""
    layouts: dict[NpyLayout, list[int]] = {}
    for place, value in zip(places, arrays, strict=True):
        try:
            layouts.setdefault(npy_layout(value), []).append(place)
        except RejectionError as error:
            rejected[place] = error.rejected
    return layouts
