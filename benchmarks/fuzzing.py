"""Do the readers of what strangers send stand 100,000 bad inputs each?

Each reader of tests/support/fuzz_targets.py gets inputs made of good ones: bits, integers, lengths,
tokens and pieces changed, or plain noise. Each runs in a process of its own, so that a crash of a
library in C is seen as one, and an input over which it hangs. For each:

    NAME_inputs           fed
    NAME_failures         ended in an exception that is not foreseen
    NAME_crashes          ended the process, or hung in it
    NAME_seconds          inside the reader
    NAME_slowest_seconds  for one input
    NAME_grown_mb         by how much the process's largest memory grew after the first inputs
"""

import argparse
import contextlib
import multiprocessing
import queue
import sys
import time
from collections import Counter
from multiprocessing.queues import Queue

import torch
from report import ROOT, Report, parse_arguments, progress

sys.path.insert(0, str(ROOT / "tests" / "support"))

from fuzz_targets import targets
from fuzzing import FuzzResult, fuzz

PORTION = 5000
MOST_SECONDS = 900.0
"""For a portion; more means that one of its inputs hangs."""


def main() -> None:
    """Feed all and report."""
    arguments = parse_arguments(__doc__, add_options)
    num_inputs = 2000 if arguments.quick else arguments.inputs
    torch.set_num_threads(1)  # a forked process has no others
    report = Report("fuzzing", arguments)
    for target in targets():
        if arguments.only in (None, target.name):
            measure(report, target.name, num_inputs, seed=arguments.seed)
    report.close()


def add_options(parser: argparse.ArgumentParser) -> None:
    """Let number, seed and reader be chosen."""
    parser.add_argument("--inputs", type=int, default=100_000, help="for each reader")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="name of one reader")


def measure(report: Report, name: str, num_inputs: int, *, seed: int) -> None:
    """Feed one reader, in portions, so that a crash costs one of them."""
    results, num_crashes = [], 0
    for first in range(0, num_inputs, PORTION):
        count = min(PORTION, num_inputs - first)
        result = feed_apart(name, count, seed=seed, first=first)
        if result is None:
            num_crashes += 1
            progress(f"{name} {seed}/{first}..{first + count}: the process ended or hung")
        else:
            results.append(result)
            for failure in result.failures:
                progress(failure)
    if not results:
        sys.exit(f"{name}: every process ended")
    report.add(f"{name}_inputs", [sum(each.num_inputs for each in results)])
    report.add(f"{name}_failures", [sum(each.num_failures for each in results)])
    report.add(f"{name}_crashes", [num_crashes])
    report.add(f"{name}_seconds", [sum(each.seconds for each in results)])
    report.add(f"{name}_slowest_seconds", [max(each.slowest_seconds for each in results)])
    report.add(f"{name}_grown_mb", [max(each.grown_bytes for each in results) / 1e6])
    words = sum((each.words for each in results), start=Counter[str]())
    progress(f"{name}: {dict(words.most_common())}")


def feed_apart(name: str, count: int, *, seed: int, first: int) -> FuzzResult | None:
    """Feed in a process of its own; None if that did not come to its end."""
    # Forked: a process that imports torch for each portion would spend its time on that.
    context = multiprocessing.get_context("fork")
    answers: Queue[FuzzResult] = context.Queue()
    process = context.Process(target=feed, args=(answers, name, count, seed, first))
    process.start()
    deadline = time.monotonic() + MOST_SECONDS
    try:
        while time.monotonic() < deadline:
            is_alive = process.is_alive()
            with contextlib.suppress(queue.Empty):
                return answers.get(timeout=0.5)
            if not is_alive:
                break
        return None
    finally:
        process.kill()
        process.join()


def feed(answers: "Queue[FuzzResult]", name: str, count: int, seed: int, first: int) -> None:
    """Feed, and say what came of it."""
    (target,) = (each for each in targets() if each.name == name)
    answers.put(fuzz(target, count, seed=seed, first=first))


if __name__ == "__main__":
    main()
