"""The class `Stack`."""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

from . import _native
from ._scopes import Scope, assert_no_leak, assert_peak
from ._snapshot import Snapshot

_open: weakref.WeakSet[Stack] = weakref.WeakSet()


class Stack(_native.Stack):
    """A stack of memory resources, described by a text such as `managed | pool | limit(80%) | statistics`.

    `device` is the number of a GPU or a `Device`. `simulated` is a simulated device instead, for example `"a100:12GiB"`.
    Two stacks with `simulated` have a machine each; stacks on one `Device` share it.

        >>> stack = Stack("device | pool | limit(1GiB)", simulated="a100:12GiB")
        >>> stack.allocate(2 << 30)
        Traceback (most recent call last):
        cumem._errors.LimitExceededError: limit reached: limit was asked for 2 GiB, and 0 bytes of 1 GiB are in use
    """

    def __init__(
        self,
        text: str | None,
        device: int | _native.Device | None = None,
        *,
        simulated: str | None = None,
    ) -> None:
        # The base class has done the work in `__new__`.
        _open.add(self)

    def scope(self, *, all_threads: bool = True) -> Scope:
        """Counts the allocations of a `with` block or of a function. The stack needs a layer `statistics`.

        >>> stack = Stack("device | pool | statistics", simulated="a100")
        >>> with stack.scope() as scope:
        ...     stack.allocate(1000).close()
        >>> scope.counts.peak_bytes, scope.counts.current_bytes
        (1000, 0)
        """
        return Scope(self, all_threads=all_threads)

    def profiler(self, name: str | None = None) -> Scope:
        """Counts the allocations that the calling thread makes in a `with` block or in a function, and adds them to
        `profile` under a name. Without a name, a function is known by its own, and a block by its file and line.

        >>> stack = Stack("device | pool | statistics", simulated="a100")
        >>> @stack.profiler()
        ... def step():
        ...     stack.allocate(1000).close()
        >>> step(), step()
        (None, None)
        >>> stack.profile
        [ProfileRow(name="step", calls=2, peak_bytes=1000, total_bytes=2000)]
        """
        given = name
        if name is None:
            caller = sys._getframe(1)
            name = f"{os.path.basename(caller.f_code.co_filename)}:{caller.f_lineno}"
        return Scope(self, name, all_threads=False, takes_name=given is None)

    def assert_peak(self, limit: int | str) -> assert_peak:
        """Raises `PeakError` if the live bytes rise by more than `limit` within a `with` block or a function."""
        return assert_peak(limit, self)

    def assert_no_leak(self) -> assert_no_leak:
        """Raises `LeakError` if a `with` block or a function leaves live memory behind."""
        return assert_no_leak(self)

    def snapshot(self) -> Snapshot:
        """Returns every piece of memory of the stack's pools at one moment."""
        return Snapshot(self)


def default_stack(device: int = 0) -> Stack:
    """Returns the default stack of a device, which the C interface and PyTorch's functions use.

    The environment variable `CUMEM_STACK` describes the stack, and otherwise the text is
    `virtual | pool | graph_pools(detect)`.
    """
    return Stack(None, device)


def open_stacks() -> list[Stack]:
    """Returns the stacks of this process that are open."""
    return [stack for stack in list(_open) if not stack.closed]


@contextmanager
def simulate(profile: str) -> Iterator[None]:
    """Puts a simulated device in the place of GPUs, for stacks that are opened within the `with` block.

    The environment variable `CUMEM_PROFILE` does the same for a process and its children.

        >>> with simulate("a100:12GiB"):
        ...     Stack("device | pool").device.is_simulated
        True
    """
    before = os.environ.get("CUMEM_PROFILE")
    os.environ["CUMEM_PROFILE"] = profile
    try:
        yield
    finally:
        if before is None:
            del os.environ["CUMEM_PROFILE"]
        else:
            os.environ["CUMEM_PROFILE"] = before
