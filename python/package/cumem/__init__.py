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
    LimitExceededError,
    NotSupportedError,
    OutOfMemoryError,
    StackError,
    StackTextError,
)
from ._native import Buffer, Counters, Device, Stack, Stream

__all__ = [
    "AddressError",
    "Buffer",
    "BusyError",
    "ClosedError",
    "Counters",
    "Device",
    "DriverError",
    "Error",
    "ForkedError",
    "InvalidRequestError",
    "LimitExceededError",
    "NotSupportedError",
    "OutOfMemoryError",
    "Stack",
    "StackError",
    "StackTextError",
    "Stream",
    "get_include",
    "library_path",
]


def get_include() -> str:
    """Returns the folder of `cumem.h` and `cumem.hpp`."""
    import os

    return os.path.join(os.path.dirname(os.path.abspath(__file__)), "include")


def library_path() -> str:
    """Returns the shared object with the functions of `cumem.h`, for `ctypes.CDLL` and PyTorch."""
    return _native.__file__
