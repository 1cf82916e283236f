"""Composable memory resources for CUDA: one stack under Python, PyTorch, CuPy, Numba, cuda.core and C.

    >>> import cumem
    >>> stack = cumem.Stack("device | pool | statistics", simulated="a100:12GiB")
    >>> with stack.allocate(1 << 20) as buffer:
    ...     stack.counters.live_bytes
    1048576
"""

from __future__ import annotations

from . import _native
from ._errors import (
    AddressError,
    BusyError,
    ClosedError,
    DriverError,
    Error,
    ForkedError,
    InvalidRequestError,
    LeakError,
    LimitExceededError,
    NotSupportedError,
    OutOfMemoryError,
    PeakError,
    StackError,
    StackTextError,
)
from ._native import Buffer, Counters, Counts, Device, HintOutcome, ProfileRow, Stream, parse_size
from ._scopes import Scope, assert_no_leak, assert_peak
from ._snapshot import Snapshot
from ._stack import Stack, default_stack, open_stacks, simulate

__version__: str = _native.__version__

__all__ = [
    "AddressError",
    "Buffer",
    "BusyError",
    "ClosedError",
    "Counters",
    "Counts",
    "Device",
    "DriverError",
    "Error",
    "ForkedError",
    "HintOutcome",
    "InvalidRequestError",
    "LeakError",
    "LimitExceededError",
    "NotSupportedError",
    "OutOfMemoryError",
    "PeakError",
    "ProfileRow",
    "Scope",
    "Snapshot",
    "Stack",
    "StackError",
    "StackTextError",
    "Stream",
    "assert_no_leak",
    "assert_peak",
    "default_stack",
    "get_include",
    "library_path",
    "open_stacks",
    "parse_size",
    "simulate",
]


def get_include() -> str:
    """Returns the folder of `cumem.h` and `cumem.hpp`."""
    import os

    return os.path.join(os.path.dirname(os.path.abspath(__file__)), "include")


def library_path() -> str:
    """Returns the shared object with the functions of `cumem.h`, for `ctypes.CDLL` and PyTorch."""
    path = _native.__file__
    assert path is not None
    return path
