"""How fast do records become a task, against a loop that does nothing but read and decode?

Ours is what the daemon's intake thread does: poll the stream log, decode, digest (in a thread),
append to the task buffer, cut one task. The reference reads the same rows of the same file with
sqlite3, one statement for all of them, decodes the values and puts array and label in their place
in one tensor; it keeps no offsets, checks nothing, digests nothing. It decodes as fast as can be
done honestly: an array by numpy.frombuffer behind a header that was parsed once, since all have
the same (numpy.load, which parses each, is `npy_load_records_per_second`), an image by Pillow.

Figures: `npy_ratio` and `png_ratio` (our rate / the reference's; 3x32x32 uint8, 3 KB each), and the
rates. The file is in the page cache in both.
"""

import io
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from report import Report, alternate, parse_arguments, progress

from teacherd.consumers.decoding import NPY, Decoder, DecodingConfig
from teacherd.consumers.producing import PNG, build_record, encode_npy, encode_png
from teacherd.consumers.record import NewRecord
from teacherd.consumers.stream_log import StreamLog, StreamLogConfig
from teacherd.consumers.task_buffer import TaskBuffer, TaskBufferConfig

SHAPE = (3, 32, 32)
CLASSES = tuple("0123456789")
POLL_RECORDS = 256
APPEND_RECORDS = 500

Tensors = tuple[torch.Tensor, torch.Tensor]


def main() -> None:
    """Measure both formats and report."""
    arguments = parse_arguments(__doc__)
    report = Report("intake", arguments)
    num_records, repetitions = (2_000, 2) if arguments.quick else (20_000, 9)
    with tempfile.TemporaryDirectory() as directory:
        npy = make_log(Path(directory) / "npy.db", NPY, encode_npy, num_records)
        count = {"num_records": num_records, "repetitions": repetitions}
        measure(report, npy, decode_npy(npy), name="npy", **count)
        load = [rate(lambda: bare(npy, load_npy, num_records), num_records) for _ in range(3)]
        report.add("npy_load_records_per_second", load)
        # An image takes ten times as long: fewer do.
        count["num_records"] //= 4
        png = make_log(Path(directory) / "png.db", PNG, encode_png, count["num_records"])
        measure(report, png, decode_png, name="png", **count)
    report.close()


def make_log(
    path: Path, content_type: str, encode: Callable[[np.ndarray], bytes], num_records: int
) -> StreamLogConfig:
    """Fill a stream log with seeded images."""
    progress(f"{num_records} records of {content_type}")
    config = StreamLogConfig(path=str(path))
    log = StreamLog(config)
    rng = np.random.default_rng(0)

    def records() -> Iterable[NewRecord]:
        for number in range(APPEND_RECORDS):
            image = rng.integers(0, 256, SHAPE, dtype=np.uint8)
            yield build_record(encode(image), content_type=content_type, label=number % 10)

    for _ in range(num_records // APPEND_RECORDS):
        log.append(records())
    log.close()
    return config


def measure(
    report: Report,
    config: StreamLogConfig,
    decode: Callable[[bytes], np.ndarray],
    *,
    name: str,
    num_records: int,
    repetitions: int,
) -> None:
    """Report the rates of one format; refuse to if the two do not give the same tensors."""
    for mine, theirs in zip(
        ours(config, num_records), bare(config, decode, num_records), strict=True
    ):
        assert torch.equal(mine, theirs), "ours and the reference differ"
    rates, references = alternate(
        lambda: rate(lambda: ours(config, num_records), num_records),
        lambda: rate(lambda: bare(config, decode, num_records), num_records),
        repetitions=repetitions,
    )
    report.add_ratio(f"{name}_ratio", rates, references)
    report.add(f"{name}_records_per_second", rates)
    report.add(f"{name}_reference_records_per_second", references)


def rate(run: Callable[[], Tensors], num_records: int) -> float:
    """Return how many records a second one run makes."""
    started = time.perf_counter()
    run()
    return num_records / (time.perf_counter() - started)


def ours(config: StreamLogConfig, num_records: int) -> Tensors:
    """Take all records in as the daemon does."""
    log = StreamLog(config)
    decoder = Decoder(DecodingConfig(), input_shape=SHAPE, classes=CLASSES)
    limits = TaskBufferConfig(instances=num_records, max_records=num_records)
    buffer = TaskBuffer(limits, now=time.monotonic)
    while (batch := log.poll(POLL_RECORDS, 0.0)) is not None:
        buffer.append(batch, decoder.decode_batch(batch), log.positions())
    task = buffer.cut("drain")
    for closed in (log, decoder, buffer):
        closed.close()
    return torch.from_numpy(task.inputs), torch.from_numpy(task.labels)


def bare(
    config: StreamLogConfig, decode: Callable[[bytes], np.ndarray], num_records: int
) -> Tensors:
    """Read and decode, nothing else."""
    inputs, labels = np.empty((num_records, *SHAPE), np.uint8), np.empty(num_records, np.int64)
    connection = sqlite3.connect(config.path)
    rows = connection.execute("SELECT headers, value FROM records ORDER BY offset")
    for place, (headers, value) in enumerate(rows):
        inputs[place] = decode(value)
        labels[place] = headers[-1] - ord("0")  # the label is the last header, one digit
    connection.close()
    return torch.from_numpy(inputs), torch.from_numpy(labels)


def decode_npy(config: StreamLogConfig) -> Callable[[bytes], np.ndarray]:
    """Return a decoder for arrays that all have the header of the first one."""
    connection = sqlite3.connect(config.path)
    (first,) = connection.execute("SELECT value FROM records LIMIT 1").fetchone()
    connection.close()
    start = len(first) - load_npy(first).nbytes
    return lambda value: np.frombuffer(value, np.uint8, offset=start).reshape(SHAPE)


def load_npy(value: bytes) -> np.ndarray:
    """Decode an array as everybody does."""
    return np.load(io.BytesIO(value), allow_pickle=False)


def decode_png(value: bytes) -> np.ndarray:
    """Decode an image as everybody does."""
    return np.asarray(Image.open(io.BytesIO(value))).transpose(2, 0, 1)


if __name__ == "__main__":
    main()
