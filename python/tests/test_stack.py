"""Stacks: allocation, counts, limits, and errors that carry numbers."""

import pickle

import pytest

import cumem

KINDS = {
    "device": "device",
    "managed": "managed",
    "pinned": "pinned",
    "host": "host",
    "virtual": "device",
    "async": "device",
    "device | pool | spill(managed)": "either",
}


@pytest.mark.parametrize("text", KINDS)
def test_memory_is_counted_until_it_is_closed(open_stack, text):
    stack = open_stack(text)
    assert stack.kind == KINDS[text]
    buffer = stack.allocate(1000)
    assert (buffer.size, len(buffer), buffer.closed) == (1000, 1000, False)
    assert buffer.ptr % 16 == 0 and buffer.ptr > 0
    assert (stack.counters.live_blocks, stack.counters.live_bytes) == (1, 1000)
    buffer.close()
    assert (buffer.closed, stack.counters.live_blocks, stack.counters.peak_live_bytes) == (True, 0, 1000)
    buffer.close()  # once more changes nothing
    assert stack.counters.live_blocks == 0


@pytest.mark.parametrize("text", ["device", "device | pool", "host", "managed | pool"])
def test_empty_buffers_are_buffers(open_stack, text):
    with open_stack(text).allocate(0) as empty:
        assert (empty.size, empty.copy_to_host(), bool(len(empty))) == (0, b"", False)
        empty.copy_from_host(b"")


def test_a_with_block_closes(open_stack):
    stack = open_stack("device | pool")
    with stack.allocate(10) as buffer:
        assert stack.counters.live_blocks == 1
    assert buffer.closed and stack.counters.live_blocks == 0
    with cumem.Stack("device", simulated="a100") as inner:
        inner.allocate(10).close()
    assert inner.closed


def test_a_buffer_that_is_deleted_is_freed(open_stack):
    stack = open_stack("device | pool")
    buffer = stack.allocate(10)
    del buffer
    assert stack.counters.live_blocks == 0


def test_a_stack_in_use_stays_open(open_stack):
    stack = open_stack("device | pool")
    buffer, raw = stack.allocate(10), stack.allocate_raw(10)
    with pytest.raises(cumem.BusyError, match="1 buffer, scope or call and 1 raw block"):
        stack.close()
    stack.free_raw(raw)
    with pytest.raises(cumem.BusyError, match="1 buffer"):
        stack.close()
    buffer.close()
    del buffer
    stack.close()
    stack.close()
    assert stack.closed and "closed" in repr(stack)
    for use in [lambda: stack.allocate(1), lambda: stack.counters, lambda: stack.text, lambda: stack.trim()]:
        with pytest.raises(cumem.ClosedError, match="the stack is closed"):
            use()


def test_a_buffer_outlives_the_name_of_its_stack():
    buffer = cumem.Stack("managed | pool", simulated="a100").allocate(4)
    buffer.copy_from_host(b"abcd")
    assert buffer.copy_to_host() == b"abcd"


def test_an_exception_in_a_with_block_is_kept():
    with pytest.raises(KeyError):
        with cumem.Stack("device", simulated="a100") as stack:
            kept = stack.allocate(10)
            raise KeyError
    assert not stack.closed
    kept.close()
    with pytest.raises(cumem.BusyError):
        with stack:
            kept = stack.allocate(10)
    kept.close()


def test_limits(open_stack):
    stack = open_stack("device | pool | limit(1MiB)")
    assert stack.limit == 1 << 20
    held = stack.allocate(512 << 10)
    with pytest.raises(cumem.LimitExceededError) as caught:
        stack.allocate(600 << 10)
    error = caught.value
    assert isinstance(error, MemoryError)
    assert (error.requested, error.allocated, error.free) == (600 << 10, 512 << 10, 512 << 10)
    assert (error.limit, error.layer, error.kind) == (1 << 20, "limit", "device")
    stack.limit = "2MiB"
    stack.allocate(600 << 10).close()
    stack.limit = 0
    with pytest.raises(cumem.LimitExceededError):
        stack.allocate(1)
    stack.limit = "50%"
    assert stack.limit == 2 << 30
    held.close()
    with pytest.raises(cumem.NotSupportedError, match="no limit"):
        open_stack("device | pool").limit = 1
    assert open_stack("device").limit is None


@pytest.mark.parametrize("text", ["device", "device | pool", "virtual | pool"])
def test_out_of_memory(open_stack, text):
    stack = open_stack(text)
    with pytest.raises(cumem.OutOfMemoryError, match="out of memory") as caught:
        held = [stack.allocate(1 << 30) for _ in range(100)]
        del held
    assert caught.value.requested >= 1 << 30
    assert caught.value.free is not None
    assert caught.value.kind == stack.kind
    assert stack.counters.live_blocks == 0


@pytest.mark.parametrize(
    ("text", "marked", "says"),
    [
        ("device | poool", "poool", "did you mean `pool`"),
        ("device | prefetch", "prefetch", "cannot be prefetched"),
        ("managed | prefetch | statistics", "prefetch", "applied last"),
        ("managed | limit(80)", "80", "80"),
        ("", "", ""),
    ],
)
def test_a_wrong_text_is_marked(text, marked, says):
    with pytest.raises(cumem.StackTextError) as caught:
        cumem.Stack(text, simulated="a100")
    error = caught.value
    assert isinstance(error, ValueError)
    start, end = error.span
    assert text[start:end] == marked
    assert says in str(error) and error.message in str(error)
    if marked:
        line, carets = str(error).split("\n")[1:3]
        assert line[carets.index("^") : carets.rindex("^") + 1] == marked
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.span) == (type(error), str(error), error.span)


def test_a_layer_that_the_device_refuses():
    with pytest.raises(cumem.StackError, match="(?s)`pool` could not be created.*\\^\\^\\^\\^ this layer.*asked for 100 GiB"):
        cumem.Stack("device | pool(initial=100GiB)", simulated="a100:4GiB")


def test_a_gpu_that_is_not_there():
    with pytest.raises(cumem.Error, match="simulated|no device") as caught:
        cumem.Stack("device", device=4000)
    assert not isinstance(caught.value, MemoryError)
    with pytest.raises(cumem.InvalidRequestError, match="number"):
        cumem.Stack("device", device=-1)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: cumem.Stack(), TypeError),
        (lambda: cumem.Stack(None, simulated="a100"), TypeError),
        (lambda: cumem.Stack(7, simulated="a100"), TypeError),
        (lambda: cumem.Stack("device", "a100"), TypeError),
        (lambda: cumem.Stack("device", simulated="b100"), cumem.InvalidRequestError),
        (lambda: cumem.Stack("device", simulated="a100:many"), cumem.InvalidRequestError),
        (lambda: cumem.Stack("device", cumem.Device(simulated="a100"), simulated="a100"), TypeError),
        (lambda: cumem.parse_size("4 GiBi"), ValueError),
        (lambda: cumem.parse_size("80%"), ValueError),
        (lambda: cumem.parse_size(1.5), TypeError),
        (lambda: cumem.Buffer(), TypeError),
    ],
)
def test_wrong_arguments(call, error):
    with pytest.raises(error):
        call()


@pytest.mark.parametrize("size", [-1, 1 << 63, 1 << 64, 1.0, None, "1"])
def test_wrong_sizes(open_stack, size):
    stack = open_stack("device | pool")
    with pytest.raises((OverflowError, TypeError, ValueError)):
        stack.allocate(size)
    with pytest.raises((OverflowError, TypeError, ValueError)):
        stack.allocate_raw(size)
    assert stack.counters.live_blocks == 0


def test_sizes():
    assert [cumem.parse_size(size) for size in (7, "4096", "1.5 GiB", "256MB")] == [7, 4096, 3 << 29, 256_000_000]


class TestAddresses:
    @pytest.mark.parametrize("text", ["device", "device | pool", "pinned", "host | statistics"])
    def test_a_block_is_freed_by_its_address(self, open_stack, text):
        stack = open_stack(text)
        address = stack.allocate_raw(1000)
        assert stack.counters.live_bytes == 1000
        for wrong in (address + 16, 1 << 40):
            with pytest.raises(cumem.AddressError) as caught:
                stack.free_raw(wrong)
            assert caught.value.address == wrong
        with pytest.raises(cumem.AddressError, match="1000 bytes, and 999 were given"):
            stack.free_raw(address, size=999)
        stack.free_raw(address, size=1000)
        with pytest.raises(cumem.AddressError):
            stack.free_raw(address)
        assert stack.counters.live_blocks == 0

    def test_alignment(self, open_stack):
        stack = open_stack("device | pool")
        address = stack.allocate_raw(100, align=4096)
        assert address % 4096 == 0
        stack.free_raw(address)
        with pytest.raises(ValueError, match="power of two|alignment"):
            stack.allocate_raw(100, align=3)

    def test_the_memory_of_a_buffer_cannot_be_freed_by_address(self, open_stack):
        stack = open_stack("device | pool")
        with stack.allocate(1000) as buffer:
            with pytest.raises(cumem.AddressError, match="not released"):
                stack.free_raw(buffer.ptr)
            assert stack.counters.live_blocks == 1

    def test_zero(self, open_stack):
        stack = open_stack("device | pool")
        assert stack.allocate_raw(0) == 0
        stack.free_raw(0)


def test_trim_and_peaks(open_stack):
    stack = open_stack("device | pool")
    stack.allocate(8 << 20).close()
    counters = stack.counters
    assert counters.reserved_bytes >= 8 << 20 and counters.peak_live_bytes == 8 << 20
    freed = stack.trim()
    assert freed == counters.reserved_bytes and stack.counters.reserved_bytes == 0
    stack.reset_peak()
    assert stack.counters.peak_live_bytes == 0
    stack.allocate(8 << 20).close()
    assert stack.trim("1TiB") == 0
    with pytest.raises(cumem.NotSupportedError, match="no pool"):
        open_stack("device").reset_peak()


def test_snapshot(open_stack):
    stack = open_stack("device | pool")
    with stack.allocate(1000) as buffer:
        snapshot = stack.snapshot()
        [pool] = snapshot.pools
        live = [region for region in pool["regions"] if region["state"] == "live"]
        assert [region["address"] for region in live] == [buffer.ptr]
        assert pool["requested"] == 1000 and "1" in str(snapshot) and "1 pools" in repr(snapshot)


def test_two_stacks_share_a_device():
    device = cumem.Device(simulated="a100:4GiB")
    first, second = cumem.Stack("device", device), cumem.Stack("device | pool", device=device)
    assert first.device == second.device == device and hash(first.device) == hash(device)
    assert first.device != cumem.Stack("device", simulated="a100:4GiB").device
    free, total = device.memory_info()
    with first.allocate(1 << 20):
        assert second.device.memory_info()[0] <= free - (1 << 20) and total == 4 << 30
    assert (device.is_simulated, device.ordinal, device.total_memory) == (True, 0, 4 << 30)


def test_default_and_simulated_stacks(monkeypatch):
    with cumem.simulate("gtx1080ti:1GiB"):
        stack, other = cumem.Stack("device | pool"), cumem.Stack("managed")
        assert stack.device == other.device and stack.device.is_simulated
        assert stack.device.total_memory == 1 << 30
    monkeypatch.setenv("CUMEM_PROFILE", "a100")
    monkeypatch.setenv("CUMEM_STACK", "device | pool | statistics")
    default, again = cumem.default_stack(), cumem.default_stack()
    assert default.handle == again.handle and default.text.startswith("statistics over pool over device")
    with default.allocate(1000):
        assert again.counters.live_bytes == 1000
    default.close()  # closes this object; the stack itself stays open
    assert again.counters.live_bytes == 0


def test_the_stack_of_c_is_the_stack_of_python():
    import ctypes

    stack = cumem.Stack("device | pool", simulated="a100")
    library = ctypes.CDLL(cumem.library_path())
    address = ctypes.c_void_p()
    allocate = library.cumem_allocate
    allocate.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    assert allocate(stack.handle, 1000, 0, None, ctypes.byref(address), None) == 0
    assert stack.counters.live_bytes == 1000
    stack.free_raw(address.value)
    assert stack.counters.live_bytes == 0
    library.cumem_stack_close.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    assert library.cumem_stack_close(stack.handle, None) == 0
    with pytest.raises(cumem.ClosedError):
        stack.allocate_raw(1)


def test_the_headers_are_there():
    import pathlib

    include = pathlib.Path(cumem.get_include())
    assert "cumem_allocate" in (include / "cumem.h").read_text()
    assert (include / "cumem.hpp").exists()
