"""Lineage logs that say something else than what happened, with every checksum right."""

from collections.abc import Callable, Iterable
from pathlib import Path

from teacherd.daemon.entries import Entry
from teacherd.daemon.lineage_log import LineageLog, read_lineage_log


def rewrite_log(path: Path, change: Callable[[Entry], Entry | Iterable[Entry]]) -> None:
    """Replace a log by one with other entries: for each, what `change` makes of it."""
    logged = read_lineage_log(path)
    path.unlink()
    log = LineageLog(path, now=lambda: "2030-01-01T00:00:00.000+00:00")
    for each in logged:
        changed = change(each.entry)
        for entry in changed if isinstance(changed, Iterable) else (changed,):
            log.append(entry)
    log.close()
