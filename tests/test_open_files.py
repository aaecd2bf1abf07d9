"""The limit of open files is raised as far as it goes, and never lowered."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("now", "most", "wanted", "then"),
    [(64, 512, 128, 128), (64, 512, 10_000, 512), (256, 512, 128, 256)],
)
def test_it_is_raised_up_to_the_hard_limit(now: int, most: int, wanted: int, then: int) -> None:
    """In a process of its own: no limit comes back up."""
    program = (
        "import resource as r\n"
        "from teacherd.daemon.open_files import raise_open_files\n"
        f"r.setrlimit(r.RLIMIT_NOFILE, ({now}, {most}))\n"
        f"said = raise_open_files({wanted})\n"
        "print(said, *r.getrlimit(r.RLIMIT_NOFILE))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)

    assert [then, then, most] == [int(word) for word in done.stdout.split()]
