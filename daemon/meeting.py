"""How ranks find out, in a store that outlives their restarts, that all of them are new.

torchrun keeps its store over restarts, with what earlier processes have left in it: addresses on
which nobody listens any more. So rank 0 gives each meeting a name of its own, under which torch's
process group then keeps its keys. A rank is known by a number that it draws at its start.
"""

import json
import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any

from torch import distributed

from teacherd.models.ranks import RankLostError

_POLL_SECONDS = 0.1
_Store = Any
"""One of torch.distributed, which mypy does not find there."""


def meet(
    store: _Store,
    rank: int,
    size: int,
    *,
    seconds: float,
    monotonic: Callable[[], float] = time.monotonic,
) -> _Store:
    """Return the part of the store that is for these processes, once all of them are there.

    Raises:
        RankLostError: Some have not come in time.
    """
    deadline = monotonic() + seconds
    agree = _lead if rank == 0 else _follow
    for name in agree(store, rank, size):
        if name is not None:
            return distributed.PrefixStore(f"meeting/{name}", store)  # type: ignore[attr-defined] # its stubs do not export it
        if monotonic() >= deadline:
            break
        time.sleep(_POLL_SECONDS)
    raise RankLostError(f"not all of {size} ranks have come within {seconds:g} s")


def _lead(store: _Store, _: int, size: int) -> Iterator[str | None]:
    """Offer a name to those who are there; whenever another one comes, a new one."""
    others = range(1, size)
    offered: list[str | None] = []
    name = ""
    while True:
        there = [_read(store, f"here/{other}") for other in others]
        if None not in there and there != offered:
            offered, name = there, secrets.token_hex(8)
            store.set("offer", json.dumps({"name": name, "ranks": there}))
        if offered and all(store.check([f"accepted/{name}/{other}"]) for other in others):
            store.set(f"agreed/{name}", "")
            yield name
        yield None


def _follow(store: _Store, rank: int, _: int) -> Iterator[str | None]:
    """Accept what is offered to this process, not to one before it; go when all have."""
    mine = secrets.token_hex(8)
    store.set(f"here/{rank}", mine)
    while True:
        offer = json.loads(_read(store, "offer") or '{"name": "", "ranks": []}')
        if mine in offer["ranks"]:
            store.set(f"accepted/{offer['name']}/{rank}", "")
            if store.check([f"agreed/{offer['name']}"]):
                yield offer["name"]
        yield None


def _read(store: _Store, key: str) -> str | None:
    return store.get(key).decode() if store.check([key]) else None
