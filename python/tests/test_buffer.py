"""Buffers: copies, parts, streams and hints."""

import numpy
import pytest

import cumem

TEXTS = ["device", "device | pool", "managed | pool", "pinned | pool", "host", "virtual | pool", "device | pool | spill(managed)"]
BYTES = bytes(range(256)) * 40


@pytest.mark.parametrize("text", TEXTS)
class TestCopies:
    def test_bytes_come_back(self, open_stack, text):
        with open_stack(text).allocate(len(BYTES)) as buffer:
            buffer.copy_from_host(BYTES)
            assert buffer.copy_to_host() == BYTES
            buffer.copy_from_host(b"xyz")  # over the start
            assert buffer.copy_to_host() == b"xyz" + BYTES[3:]

    def test_arrays(self, open_stack, text):
        numbers = numpy.arange(1000, dtype=numpy.float64)
        with open_stack(text).allocate(numbers.nbytes) as buffer:
            buffer.copy_from_host(numbers)
            found = numpy.zeros((10, 100))
            assert buffer.copy_to_host(found) is found
            assert (found.ravel() == numbers).all()

    def test_parts(self, open_stack, text):
        with open_stack(text).allocate(100) as buffer:
            buffer.fill(7)
            part = buffer[10:20]
            part.copy_from_host(b"0123456789")
            inner = part[2:4]
            assert (part.size, part.ptr - buffer.ptr, inner.ptr - buffer.ptr) == (10, 10, 12)
            assert inner.copy_to_host() == b"23"
            inner.fill(ord("x"))
            assert buffer.copy_to_host() == b"\7" * 10 + b"01xx456789" + b"\7" * 80
            assert buffer[-5:].size == 5 and buffer[200:].size == 0 and buffer[:].size == 100

    def test_between_buffers(self, open_stack, text):
        stack, others = open_stack(text), [open_stack(other) for other in TEXTS]
        with stack.allocate(len(BYTES)) as source:
            source.copy_from_host(BYTES)
            device_of = stack.device
            for other in [cumem.Stack(t, device_of) for t in TEXTS]:
                with other.allocate(len(BYTES)) as target:
                    target.copy_from(source)
                    assert target.copy_to_host() == BYTES, f"{text} to {other}"
        assert others

    def test_on_another_stream(self, open_stack, text):
        stack = open_stack(text)
        stream = cumem.Stream(stack.device)
        with stack.allocate(4, stream=stream) as buffer:
            assert buffer.stream_handle == stream.handle
            buffer.copy_from_host(b"abcd", stream=cumem.Stream(stack.device))
            assert buffer.copy_to_host(stream=stream) == b"abcd"
            buffer.set_stream(0)


def test_wrong_copies(open_stack):
    stack = open_stack("device | pool")
    with stack.allocate(10) as buffer, stack.allocate(11) as other:
        with pytest.raises(cumem.InvalidRequestError, match="11 bytes were given, and the buffer has 10"):
            buffer.copy_from_host(bytes(11))
        with pytest.raises(cumem.InvalidRequestError, match="11 bytes cannot be copied over 10"):
            buffer.copy_from(other)
        with pytest.raises(cumem.InvalidRequestError, match="overlap"):
            other[:6].copy_from(other[5:])
        other[:5].copy_from(other[5:10])
        with pytest.raises(ValueError, match="contiguous"):
            buffer.copy_from_host(numpy.zeros((4, 4))[:, 0])
        with pytest.raises(ValueError, match="read-only"):
            buffer.copy_to_host(bytes(10))
        with pytest.raises(TypeError):
            buffer.copy_from_host(7)
        with pytest.raises(TypeError):
            buffer.copy_from(b"abc")
        for value in (-1, 256, "x"):
            with pytest.raises((OverflowError, TypeError)):
                buffer.fill(value)


def test_wrong_parts(open_stack):
    with open_stack("device").allocate(10) as buffer:
        with pytest.raises(TypeError, match="slices"):
            buffer[3]
        with pytest.raises(ValueError, match="step"):
            buffer[::2]
        with pytest.raises(ValueError, match="part of another"):
            buffer[:3].close()
        with pytest.raises(TypeError):
            iter(buffer).__next__()


def test_a_part_keeps_its_buffer(open_stack):
    stack = open_stack("managed")
    part = stack.allocate(100)[50:60]
    part.fill(1)
    assert part.copy_to_host() == b"\1" * 10
    assert stack.counters.live_blocks == 1
    del part
    assert stack.counters.live_blocks == 0


def test_a_closed_buffer_says_so(open_stack):
    buffer = open_stack("managed | pool").allocate(10)
    part = buffer[2:4]
    buffer.close()
    for target in (buffer, part):
        assert target.closed and "closed" in repr(target)
        for use in [
            lambda: target.ptr,
            lambda: target.copy_to_host(),
            lambda: target.copy_from_host(b"a"),
            lambda: target.fill(0),
            lambda: target.prefetch(),
            lambda: target.advise("read_mostly"),
            lambda: target[:1],
            lambda: target.set_stream(0),
            lambda: target.record_use(0),
            lambda: target.hints(),
            lambda: target.__dlpack__(),
            lambda: memoryview(target),
        ]:
            with pytest.raises(cumem.ClosedError, match="the buffer is closed"):
                use()


class TestStreams:
    class Protocol:
        def __init__(self, handle):
            self.handle_of_stream = handle

        def __cuda_stream__(self):
            return (0, self.handle_of_stream)

    def test_streams_of_other_packages(self, open_stack):
        from types import SimpleNamespace

        stack = open_stack("device | pool")
        own = cumem.Stream(stack.device)
        handle = own.handle
        numba = SimpleNamespace(handle=SimpleNamespace(value=handle))
        numba_default = SimpleNamespace(handle=SimpleNamespace(value=None))
        for stream, expected in [
            (own, handle),
            (handle, handle),
            (self.Protocol(handle), handle),
            (SimpleNamespace(cuda_stream=handle), handle),  # PyTorch
            (SimpleNamespace(ptr=handle), handle),  # CuPy
            (numba, handle),
            (numba_default, 1),
            (None, 1),
            (0, 1),
            (1, 1),
            (2, 2),
        ]:
            with stack.allocate(10, stream=stream) as buffer:
                assert buffer.stream_handle == expected
            stack.free_raw(stack.allocate_raw(10, stream), stream)

    @pytest.mark.parametrize("stream", ["x", 1.5, object(), [], -1, 1 << 64])
    def test_what_is_no_stream(self, open_stack, stream):
        with pytest.raises((TypeError, OverflowError)):
            open_stack("device").allocate(10, stream=stream)

    def test_a_stream_of_another_device(self, open_stack):
        other = cumem.Stream(cumem.Device(simulated="a100"))
        stack = open_stack("device | pool")
        with pytest.raises(cumem.InvalidRequestError, match="belongs to"):
            stack.allocate(10, stream=other)
        with stack.allocate(10) as buffer, pytest.raises(cumem.InvalidRequestError):
            buffer.close(stream=other)

    def test_order(self, open_stack):
        stack = open_stack("device | pool")
        one, two = cumem.Stream(stack.device), cumem.Stream(stack.device)
        two.wait_for(one)
        one.wait_for(two.handle)
        one.synchronize()
        stack.synchronize()
        assert one != two and one == one and len({one, two, one}) == 2
        assert one.device == stack.device and one.__cuda_stream__() == (0, one.handle)

    def test_memory_with_a_recorded_use_is_not_reused_before(self, open_stack):
        stack = open_stack("device | pool")
        owner, user = cumem.Stream(stack.device), cumem.Stream(stack.device)
        with stack.allocate(64 << 20, stream=user) as one, stack.allocate(64 << 20, stream=user) as other:
            for records in (False, True):
                buffer = stack.allocate(1 << 20, stream=owner)
                address = buffer.ptr
                one.copy_from(other)  # work on `user` that takes a while
                if records:
                    buffer.record_use(user)
                buffer.close()
                with stack.allocate(1 << 20, stream=owner) as next_one:
                    assert (next_one.ptr == address) is not records
                user.synchronize()

    @pytest.mark.parametrize("text", ["device", "managed", "host"])
    def test_recorded_uses_of_memory_without_a_pool(self, open_stack, text):
        stack = open_stack(text)
        buffer = stack.allocate(100)
        stream = cumem.Stream(stack.device)
        buffer.record_use(stream)
        buffer.record_use(stream)
        del stream  # the free waits for the device instead
        buffer.close()


class TestHints:
    def test_prefetch_moves_pages(self, open_stack):
        stack = open_stack("managed | pool")

        def where():
            stack.synchronize()  # a prefetch is enqueued
            return buffer.residency()

        with stack.allocate(1 << 20) as buffer:
            device = repr(stack.device).split()[1]
            buffer.copy_from_host(bytes(1 << 20))
            assert where() == {device: 1 << 20}
            assert buffer.prefetch("host") and where() == {"host": 1 << 20}
            outcome = buffer.prefetch()
            assert outcome.applied and outcome.reason is None and where() == {device: 1 << 20}
            half = buffer[: 1 << 19]
            assert half.prefetch("host") and where() == {"host": 1 << 19, device: 1 << 19}
            assert half.hints()["last_prefetch"] == "host"
            for to in (buffer.device, 0, "device"):
                assert buffer.prefetch(to)

    def test_advice(self, open_stack):
        with open_stack("managed | pool").allocate(1 << 22) as buffer:
            device = str(buffer.device).split()[1]
            assert buffer.advise("read_mostly")
            assert buffer.advise("preferred_location", "host")
            assert buffer.advise("accessed_by")
            hints = buffer.hints()
            assert (hints["read_mostly"], hints["preferred_location"], hints["accessed_by"]) == (True, "host", [device])
            assert buffer.advise("read_mostly", unset=True)
            assert buffer.advise("preferred_location", unset=True)
            assert buffer.advise("accessed_by", 0, unset=True)
            hints = buffer.hints()
            assert (hints["read_mostly"], hints["preferred_location"], hints["accessed_by"]) == (False, None, [])

    @pytest.mark.parametrize(("text", "reason"), [("device", "does not migrate"), ("pinned", "does not migrate"), ("host", "does not migrate")])
    def test_memory_that_does_not_migrate_says_why(self, open_stack, text, reason):
        with open_stack(text).allocate(4096) as buffer:
            outcome = buffer.prefetch("host")
            assert not outcome and reason in outcome.reason and reason in repr(outcome)
            assert not buffer.advise("read_mostly")
            with pytest.raises(cumem.NotSupportedError):
                buffer.hints()

    def test_wrong_hints(self, open_stack):
        with open_stack("managed").allocate(4096) as buffer:
            for to, error in [("moon", ValueError), ("host:x", ValueError), (1.5, TypeError), (7, cumem.Error)]:
                with pytest.raises(error):
                    buffer.prefetch(to)
            with pytest.raises(ValueError, match="read_mostly"):
                buffer.advise("hot")
            with pytest.raises(TypeError, match="no location"):
                buffer.advise("read_mostly", "host")
