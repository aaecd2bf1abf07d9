"""What teacherd brings along is under permissive licences, or is an exception that is named.

By the metadata of what is installed here: dependencies of dependencies and all extras included.
"""

import re
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PERMISSIVE = {
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "LLVM-exception",
    "MIT",
    "MIT-0",
    "MIT-CMU",
    "PSF-2.0",
    "Zlib",
    "ZPL-2.1",
}
IN_OTHER_WORDS = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD": "BSD-3-Clause",
    "BSD License": "BSD-3-Clause",
    "ISC License": "ISC",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Python Software Foundation License": "PSF-2.0",
}
"""What older metadata says, as SPDX calls it."""
RUNNING = {
    "crc32c": "LGPL-2.1-or-later: a library that Python loads, unchanged and replaceable; without "
    "it Kafka is read at a hundredth of the speed",
}
"""Exceptions that come with `pip install teacherd`, with the reason for each."""
NVIDIA = re.compile(r"nvidia-[\w-]+|cuda-toolkit")
"""CUDA's libraries, proprietary and free to use, which torch's wheels for GPUs ask for; torch for
the CPU alone does without."""
TESTING = {
    "certifi": "MPL-2.0: Mozilla's list of certificates, of the clients that tests ask with",
    "hypothesis": "MPL-2.0: copyleft by the file, used unchanged, by tests alone",
    "pathspec": "MPL-2.0: of mypy",
}
"""Exceptions that only whoever develops teacherd installs."""


def required(name: str, extras: frozenset[str], found: dict[str, Distribution]) -> None:
    """Add what a distribution needs here to what was found, as far as it is installed."""
    key = f"{canonicalize_name(name)}[{','.join(sorted(extras))}]"
    if key in found:
        return
    try:
        found[key] = here = distribution(name)
    except PackageNotFoundError:
        return
    for line in here.requires or ():
        needed = Requirement(line)
        marker = needed.marker
        if marker is None or any(marker.evaluate({"extra": each}) for each in (*extras, "")):
            required(needed.name, frozenset(needed.extras), found)


def closure(*extras: str) -> dict[str, Distribution]:
    """Return everything that teacherd with these extras brings along, by name."""
    found: dict[str, Distribution] = {}
    required("teacherd", frozenset(extras), found)
    return {canonicalize_name(each.name): each for each in found.values()}


def licences(here: Distribution) -> Iterator[set[str]]:
    """Yield the alternatives that the metadata gives, each a set of licences that hold together."""
    metadata = here.metadata
    expression = metadata.get("License-Expression")
    if expression is None:
        words = [
            line.rpartition(" :: ")[2]
            for line in metadata.get_all("Classifier") or ()
            if line.startswith("License :: ") and not line.endswith("OSI Approved")
        ]
        words = words or [(metadata.get("License") or "").strip()]
        expression = " OR ".join(IN_OTHER_WORDS.get(word, word) for word in words)
    yield from alternatives(expression)


def alternatives(expression: str) -> Iterator[set[str]]:
    """Yield them for an expression of SPDX, in which AND binds tighter, as far as we meet it."""
    for alternative in re.split(r"\s+OR\s+", expression.replace("(", "").replace(")", "")):
        yield set(re.split(r"\s+(?:AND|WITH)\s+", alternative))


def objectionable(here: dict[str, Distribution]) -> dict[str, list[set[str]]]:
    """Return those of which no alternative is permissive."""
    found = {name: list(licences(each)) for name, each in here.items()}
    return {
        name: given
        for name, given in sorted(found.items())
        if not any(each <= PERMISSIVE for each in given) and not NVIDIA.fullmatch(name)
    }


def test_what_users_install_is_permissive_or_named() -> None:
    """With every extra that a user may choose, and no exception that is none any more."""
    here = closure("demo", "export", "mirrors", "serve", "sign")

    assert len(here) > 30
    assert {name for name in RUNNING if name in here} == set(objectionable(here))


def test_what_developers_install_is_permissive_or_named() -> None:
    """The rest, for tests."""
    here = closure("test")

    assert {name for name in RUNNING | TESTING if name in here} == set(objectionable(here))


@pytest.mark.parametrize(
    ("expression", "is_permissive"),
    [
        ("MIT", True),
        ("Apache-2.0 AND MIT", True),
        ("GPL-3.0-only OR MIT", True),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("GPL-3.0-or-later", False),
        ("MIT AND LGPL-2.1-only", False),
        ("", False),
    ],
)
def test_an_expression_is_understood(expression: str, is_permissive: bool) -> None:
    """One permissive alternative is enough, and all of it must be."""
    assert is_permissive == any(each <= PERMISSIVE for each in alternatives(expression))
