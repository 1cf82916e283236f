"""The exceptions of cumem. Each carries the numbers of its failure."""

from __future__ import annotations

from typing import Any


class Error(Exception):
    """The base of all exceptions of this package."""

    def __init__(self, text: str = "", **numbers: object) -> None:
        super().__init__(text)
        self._numbers = numbers
        for name, value in numbers.items():
            setattr(self, name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self._numbers)


def _rebuild(cls: type[Error], args: tuple[str, ...], numbers: dict[str, object]) -> Error:
    return cls(*args, **numbers)


class OutOfMemoryError(Error, MemoryError):
    """The device is out of memory, or a pool has reached its maximum.

    The figures are bytes. A figure that the failing layer does not know is `None`.
    """

    requested: int | None = None
    free: int | None = None
    total: int | None = None
    limit: int | None = None
    kind: str | None = None
    layer: str | None = None


class LimitExceededError(OutOfMemoryError):
    """The request would exceed a limit."""

    allocated: int | None = None


class StackError(Error, RuntimeError):
    """The device could not create a layer of a stack."""


class StackTextError(Error, ValueError):
    """The text describes no stack. The text of the exception marks the wrong word with carets."""

    message: str = ""
    span: tuple[int, int] = (0, 0)


class ClosedError(Error, ValueError):
    """A stack, a buffer or a scope was used after it was closed."""


class BusyError(Error, BufferError):
    """A stack or a buffer is in use, and cannot be closed."""


class AddressError(Error, ValueError):
    """No block that can be freed starts at an address."""

    address: int = 0


class InvalidRequestError(Error, ValueError):
    """A size, an alignment, a range or a device is wrong."""


class NotSupportedError(Error, RuntimeError):
    """The stack, the device or the driver has no such function."""


class DriverError(Error, RuntimeError):
    """The driver returned an error. `code` is its number, if it has one."""

    code: int | None = None


class ForkedError(Error, RuntimeError):
    """The process is a forked child of the process that opened the stack."""


class PeakError(Error, AssertionError):
    """A stack allocated more than `assert_peak` permits."""

    peak: int = 0
    limit: int = 0


class LeakError(Error, AssertionError):
    """A stack has more live memory than before."""

    leaked_bytes: int = 0
    leaked_blocks: int = 0
