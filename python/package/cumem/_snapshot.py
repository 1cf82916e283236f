"""The class `Snapshot`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._stack import Stack


class Snapshot:
    """Every piece of memory of a stack's pools at one moment. `str` draws it.

    `pools` has a dictionary for each pool, outermost first: `reserved`, `allocated`, `requested` and `free` bytes, the
    number of `blocks`, and `regions` by address. A region has an `address`, `bytes`, a `state` (`live`, `cached`,
    `pending`, `free` or `untouched`) and a `stream`.
    """

    def __init__(self, stack: Stack) -> None:
        self.text: str = stack._snapshot(False)
        self.pools: list[dict[str, Any]] = json.loads(stack._snapshot(True))["pools"]

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        live = sum(pool["allocated"] for pool in self.pools)
        return f"<cumem.Snapshot of {len(self.pools)} pools, {live} bytes live>"
