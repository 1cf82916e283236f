"""Scopes, the profiler, and assertions about memory."""

import threading

import pytest

import cumem

TEXT = "device | pool | statistics"


def test_nested_scopes(open_stack):
    stack = open_stack(TEXT)
    with stack.scope() as outer:
        first = stack.allocate(100)
        with stack.scope() as inner:
            second = stack.allocate(1000)
            assert inner.counts.current_bytes == 1000
            second.close()
        first.close()
    assert (inner.counts.peak_bytes, inner.counts.total_blocks, inner.counts.current_bytes) == (1000, 1, 0)
    assert (outer.counts.peak_bytes, outer.counts.total_bytes, outer.counts.peak_blocks) == (1100, 1100, 2)
    assert "peak_bytes=1100" in repr(outer.counts)
    assert stack.statistics.total_bytes == 1100


def test_a_scope_counts_failures_and_ends_with_an_exception(open_stack):
    stack = open_stack("device | limit(1MiB) | statistics")
    scope = stack.scope()
    with pytest.raises(MemoryError), scope:
        stack.allocate(2 << 20)
    assert scope.counts.failures == 1
    stack.allocate(10).close()
    assert scope.counts.total_blocks == 0
    with scope:  # once more
        stack.allocate(10).close()
    assert (scope.counts.failures, scope.counts.total_blocks) == (0, 1)


def test_scopes_of_one_thread(open_stack):
    stack = open_stack(TEXT)
    with stack.scope() as of_all, stack.scope(all_threads=False) as of_this:
        thread = threading.Thread(target=lambda: stack.allocate(100).close())
        thread.start()
        thread.join()
        stack.allocate(10).close()
    assert (of_all.counts.total_bytes, of_this.counts.total_bytes) == (110, 10)


def test_misuse(open_stack):
    stack = open_stack(TEXT)
    scope = stack.scope()
    with pytest.raises(RuntimeError, match="not begun"):
        scope.counts
    with scope, pytest.raises(RuntimeError, match="begun already"):
        scope.__enter__()
    with pytest.raises(cumem.NotSupportedError, match="no layer `statistics`"):
        with open_stack("device | pool").scope():
            pass

    async def coroutine():
        pass

    def generator():
        yield

    for function in (coroutine, generator):
        for block in (stack.scope(), stack.profiler(), cumem.assert_peak(1), cumem.assert_no_leak()):
            with pytest.raises(TypeError, match="with"):
                block(function)


class TestProfiler:
    def test_functions(self, open_stack):
        stack = open_stack(TEXT)

        @stack.profiler()
        def recursive(depth):
            with stack.allocate(100):
                return depth and recursive(depth - 1)

        @stack.profiler("named")
        def other():
            stack.allocate(10).close()
            raise KeyError

        recursive(2)
        for _ in range(3):
            with pytest.raises(KeyError):
                other()
        rows = {row.name: row for row in stack.profile}
        assert set(rows) == {"recursive", "named"}
        assert (rows["recursive"].calls, rows["recursive"].peak_bytes) == (3, 300)
        assert (rows["named"].calls, rows["named"].total_bytes) == (3, 30)
        assert recursive.__name__ == "recursive" and "calls=3" in repr(rows["named"])
        stack.clear_profile()
        assert stack.profile == []

    def test_blocks(self, open_stack):
        stack = open_stack(TEXT)
        with stack.profiler("block") as scope:
            stack.allocate(10).close()
        with stack.profiler():
            stack.allocate(20).close()
        assert scope.counts.total_bytes == 10
        first, second = stack.profile
        assert first.name.startswith("test_scopes.py:") and second.name == "block"


class TestAssertions:
    def test_peak(self, open_stack):
        stack = open_stack(TEXT)
        held = stack.allocate(1000)  # memory of before does not count
        with cumem.assert_peak("1KiB"), stack.assert_peak(1024):
            stack.allocate(1024).close()
        with pytest.raises(cumem.PeakError, match="the peak is 1025 bytes, and 1024 are permitted") as caught:
            with stack.assert_peak(1024):
                stack.allocate(1025).close()
        assert (caught.value.peak, caught.value.limit) == (1025, 1024)
        assert isinstance(caught.value, AssertionError)

        @cumem.assert_peak(10)
        def too_much():
            stack.allocate(11).close()

        for _ in range(2):
            with pytest.raises(cumem.PeakError):
                too_much()
        held.close()

    def test_peak_of_a_stack_that_is_opened_within(self):
        with pytest.raises(cumem.PeakError):
            with cumem.assert_peak(10):
                stack = cumem.Stack(TEXT, simulated="a100")
                stack.allocate(100).close()
        stack.close()

    def test_peak_needs_statistics(self, open_stack):
        stack = open_stack("device | pool")
        with pytest.raises(cumem.NotSupportedError, match="statistics"):
            with stack.assert_peak(10):
                pass

    def test_leaks(self, open_stack):
        stack = open_stack("device | pool")
        held = stack.allocate(1000)
        with cumem.assert_no_leak():
            stack.allocate(10).close()
        with cumem.assert_no_leak():
            held.close()
        with pytest.raises(cumem.LeakError, match="2 blocks of 11 bytes were not freed") as caught:
            with stack.assert_no_leak():
                held, raw = stack.allocate(10), stack.allocate_raw(1)
        assert (caught.value.leaked_bytes, caught.value.leaked_blocks) == (11, 2)
        stack.free_raw(raw)
        held.close()

        @cumem.assert_no_leak()
        def leaks():
            kept.append(stack.allocate(5))

        kept = []
        with pytest.raises(cumem.LeakError):
            leaks()
        kept.clear()

    def test_tracked_leaks_are_listed(self, open_stack):
        stack = open_stack("device | tracking")
        with pytest.raises(cumem.LeakError, match="12345"):
            with cumem.assert_no_leak():
                held = stack.allocate(12345)
        held.close()

    def test_an_exception_of_the_block_is_kept(self, open_stack):
        stack = open_stack(TEXT)
        with pytest.raises(KeyError), cumem.assert_no_leak(), cumem.assert_peak(1):
            held = stack.allocate(10)
            raise KeyError
        held.close()
