"""Which labels may become classes, and settings under which none could."""

import pytest

from teacherd.daemon.classes_config import ClassesConfig


@pytest.mark.parametrize(
    ("patterns", "allowed"),
    [
        (["*"], ["fox", "n/a", "plate-7", "Fox"]),
        (["plate-*", "fox"], ["fox", "plate-7"]),
        (["*", "!n/a", "!plate*"], ["fox", "Fox"]),
        (["*", "!plate*", "plate-7"], ["fox", "n/a", "plate-7", "Fox"]),
        (["[Ff]ox"], ["fox", "Fox"]),
    ],
)
def test_the_last_pattern_that_fits_decides(patterns: list[str], allowed: list[str]) -> None:
    """By case, on every machine; a label that none fits may not."""
    config = ClassesConfig(allow=tuple(patterns))

    assert allowed == [each for each in ("fox", "n/a", "plate-7", "Fox") if config.allows(each)]


@pytest.mark.parametrize("patterns", [(), ("!n/a",)])
def test_patterns_that_let_nothing_in_are_refused(patterns: tuple[str, ...]) -> None:
    """Who takes labels out and lets none in has forgotten to begin with all."""
    with pytest.raises(ValueError, match=r'^allow: .* lets no label .* begin with "\*"'):
        ClassesConfig(allow=patterns)
