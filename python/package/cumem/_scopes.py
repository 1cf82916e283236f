"""Scopes: counts within a `with` block or a function, and assertions about them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import ContextDecorator
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from . import _native
from ._errors import LeakError, NotSupportedError, PeakError

if TYPE_CHECKING:
    from ._stack import Stack

_F = TypeVar("_F", bound=Callable[..., Any])


class _Block(ContextDecorator):
    """A context manager that decorates functions too, also recursive ones, but no coroutine or generator."""

    def __call__(self, function: _F) -> _F:
        if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
            raise TypeError(
                f"`{function.__name__}` is a coroutine or a generator: its call ends before its work; "
                "use a `with` block in it"
            )
        return super().__call__(function)


class Scope(_Block):
    """Counts the allocations of a stack between two points in time. Scopes can be nested."""

    def __init__(
        self, stack: Stack, name: str | None = None, *, all_threads: bool = True, takes_name: bool = False
    ) -> None:
        self._stack, self._name, self._all_threads, self._takes_name = stack, name, all_threads, takes_name
        self._open: _native.Scope | None = None
        self._counts: _native.Counts | None = None

    def _recreate_cm(self) -> Scope:
        return Scope(self._stack, self._name, all_threads=self._all_threads)

    def __call__(self, function: _F) -> _F:
        if self._takes_name:
            self._name = function.__qualname__.rpartition("<locals>.")[2]
        return super().__call__(function)

    @property
    def counts(self) -> _native.Counts:
        """The counts so far, and after the end of the scope its final counts."""
        if self._open is not None:
            return self._open.counts()
        if self._counts is None:
            raise RuntimeError("the scope has not begun: use it in a `with` statement")
        return self._counts

    def __enter__(self) -> Scope:
        if self._open is not None:
            raise RuntimeError("the scope has begun already: each `with` statement needs its own")
        self._open = self._stack._begin_scope(self._name, all_threads=self._all_threads)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._open is not None:
            self._counts, self._open = self._open.end(), None


class assert_peak(_Block):
    """Raises `PeakError` if the live bytes of a stack rise by more than `limit` within the block.

    Without a stack, each open stack of the process that has a layer `statistics` is checked, also those that are opened
    within the block. The block's own exception is not replaced.
    """

    def __init__(self, limit: int | str, stack: Stack | None = None) -> None:
        self._limit, self._stack = _native.parse_size(limit), stack
        self._scopes: list[tuple[Stack, Scope]] = []

    def _recreate_cm(self) -> assert_peak:
        return assert_peak(self._limit, self._stack)

    def __enter__(self) -> assert_peak:
        stacks = [self._stack] if self._stack is not None else _open_stacks()
        for stack in stacks:
            scope = stack.scope()
            try:
                scope.__enter__()
            except NotSupportedError:
                if self._stack is not None:
                    raise
                continue
            self._scopes.append((stack, scope))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        scopes, self._scopes = self._scopes, []
        for _, scope in scopes:
            scope.__exit__(None, None, None)
        peaks = [(stack, scope.counts.peak_bytes) for stack, scope in scopes]
        if self._stack is None:
            known = [stack for stack, _ in scopes]
            peaks += [(stack, stack.counters.peak_live_bytes) for stack in _new_stacks(known)]
        if kind is not None:
            return
        if not peaks:
            raise NotSupportedError("no open stack has a layer `statistics`, which `assert_peak` needs")
        for stack, peak in peaks:
            if peak > self._limit:
                text = f"the peak is {peak} bytes, and {self._limit} are permitted: {_text(stack)}"
                raise PeakError(text, peak=peak, limit=self._limit)


class assert_no_leak(_Block):
    """Raises `LeakError` if the block leaves live memory behind: buffers that are not closed, or blocks of
    `allocate_raw`, C and PyTorch.

    Without a stack, each open stack of the process is checked, also those that are opened within the block. The block's
    own exception is not replaced. A stack with a layer `tracking` lists the blocks.
    """

    def __init__(self, stack: Stack | None = None) -> None:
        self._stack = stack
        self._before: list[tuple[Stack, _native.Counters]] = []

    def _recreate_cm(self) -> assert_no_leak:
        return assert_no_leak(self._stack)

    def __enter__(self) -> assert_no_leak:
        stacks = [self._stack] if self._stack is not None else _open_stacks()
        self._before = [(stack, stack.counters) for stack in stacks]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        before, self._before = self._before, []
        if kind is not None:
            return
        checked = [(stack, old.live_bytes, old.live_blocks) for stack, old in before if not stack.closed]
        if self._stack is None:
            checked += [(stack, 0, 0) for stack in _new_stacks([stack for stack, _ in before])]
        for stack, old_bytes, old_blocks in checked:
            now = stack.counters
            more_bytes, more_blocks = now.live_bytes - old_bytes, now.live_blocks - old_blocks
            if more_blocks > 0 or more_bytes > 0:
                text = f"{more_blocks} blocks of {more_bytes} bytes were not freed: {_text(stack)}"
                report = stack._tracking()
                raise LeakError(
                    text if report is None else f"{text}\n{report}", leaked_bytes=more_bytes, leaked_blocks=more_blocks
                )


def _open_stacks() -> list[Stack]:
    from ._stack import open_stacks

    return open_stacks()


def _new_stacks(known: list[Stack]) -> list[Stack]:
    return [stack for stack in _open_stacks() if all(stack is not other for other in known)]


def _text(stack: Stack) -> str:
    return stack.text
