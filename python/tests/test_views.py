"""Memory as arrays of other packages: the buffer protocol, DLPack and `__cuda_array_interface__`."""

import ctypes
import gc

import numpy
import pytest

import cumem

HOST_ACCESSIBLE = ["managed", "managed | pool", "pinned | pool", "host"]
CPU, CUDA, CUDA_HOST, CUDA_MANAGED = (1, 0), (2, 0), (3, 0), (13, 0)


@pytest.mark.parametrize("text", HOST_ACCESSIBLE)
class TestBufferProtocol:
    def test_numpy_works_on_the_memory_itself(self, open_stack, text):
        with open_stack(text).allocate(80) as buffer:
            array = numpy.frombuffer(buffer, dtype=numpy.float64)
            assert array.ctypes.data == buffer.ptr and array.flags.writeable
            array[:] = range(10)
            assert numpy.frombuffer(buffer.copy_to_host()).tolist() == list(range(10))
            buffer[8:16].copy_from_host(numpy.array([42.0]))
            assert array[1] == 42
            assert numpy.asarray(buffer).dtype == numpy.uint8
            del array

    def test_views_of_parts(self, open_stack, text):
        with open_stack(text).allocate(100) as buffer:
            buffer.fill(0)
            view = memoryview(buffer[10:20])
            assert (view.nbytes, view.format, view.readonly, view.contiguous) == (10, "B", False, True)
            view[:] = b"0123456789"
            assert bytes(buffer[9:12]) == b"\00001"
            view.release()

    def test_a_buffer_with_views_stays_open(self, open_stack, text):
        stack = open_stack(text)
        buffer = stack.allocate(10)
        first, second = numpy.asarray(buffer), memoryview(buffer[2:4])
        with pytest.raises(cumem.BusyError, match="2 views"):
            buffer.close()
        first[0] = 7
        assert buffer.copy_to_host()[0] == 7 and isinstance(cumem.BusyError(), BufferError)
        second.release()
        del first
        buffer.close()
        assert stack.counters.live_blocks == 0

    def test_a_view_keeps_the_memory(self, open_stack, text):
        stack = open_stack(text)
        array = numpy.asarray(stack.allocate(1000))
        array[:] = 9
        gc.collect()
        assert array.sum() == 9000 and stack.counters.live_blocks == 1
        del array
        assert stack.counters.live_blocks == 0


@pytest.mark.parametrize("text", ["device", "device | pool", "virtual", "device | pool | spill(managed)"])
def test_device_memory_has_no_view(open_stack, text):
    with open_stack(text).allocate(10) as buffer:
        with pytest.raises(BufferError, match="copy_to_host"):
            memoryview(buffer)
        with pytest.raises(BufferError, match="copy_to_host"):
            buffer.copy_from_host(buffer)
        buffer.close()  # no view was counted


def test_a_view_waits_for_the_work_on_the_stream(open_stack):
    stack = open_stack("managed | pool")
    stream = cumem.Stream(stack.device)
    with stack.allocate(64 << 20, stream=stream) as buffer, stack.allocate(64 << 20, stream=stream) as source:
        source.fill(3)
        buffer.copy_from(source)
        assert set(numpy.asarray(buffer)[:: 1 << 20].tolist()) == {3}


def test_a_view_keeps_work_away_where_the_host_may_not_access_beside_the_device(open_stack):
    stack = open_stack("managed", simulated="maxwell")
    with stack.allocate(4096) as buffer, stack.allocate(4096) as other:
        view = memoryview(buffer)
        with pytest.raises(cumem.DriverError, match="host guards"):
            other.fill(1)
        view.release()
        other.fill(1)


def test_cuda_array_interface_is_for_gpus(open_stack):
    for text in ("device", "managed", "host"):
        with open_stack(text).allocate(10) as buffer:
            assert not hasattr(buffer, "__cuda_array_interface__")


class TestDlpack:
    @pytest.mark.parametrize("text", HOST_ACCESSIBLE)
    def test_numpy(self, open_stack, text):
        stack = open_stack(text)
        buffer = stack.allocate(100)
        assert buffer.__dlpack_device__() == CPU
        array = numpy.from_dlpack(buffer)
        assert (array.dtype, array.shape, array.ctypes.data) == (numpy.uint8, (100,), buffer.ptr)
        array[:] = 5
        assert buffer.copy_to_host() == b"\5" * 100
        with pytest.raises(cumem.BusyError, match="1 view"):
            buffer.close()
        del array
        part = numpy.from_dlpack(buffer[40:50], copy=False)
        assert part.ctypes.data == buffer.ptr + 40
        del part, buffer
        assert stack.counters.live_blocks == 0

    @pytest.mark.parametrize("text", ["device", "managed | pool", "host"])
    def test_copies(self, open_stack, text):
        with open_stack(text).allocate(10) as buffer:
            buffer.copy_from_host(b"0123456789")
            array = numpy.from_dlpack(buffer, device="cpu", copy=True)
            buffer.fill(0)
            assert bytes(array) == b"0123456789"
            buffer.close()

    def test_empty(self, open_stack):
        with open_stack("managed").allocate(0) as buffer:
            assert numpy.from_dlpack(buffer).shape == (0,)

    def test_device_memory_of_a_simulated_device_stays_there(self, open_stack):
        with open_stack("device | pool").allocate(10) as buffer:
            with pytest.raises(cumem.NotSupportedError, match="copy_to_host"):
                buffer.__dlpack_device__()
            for device in (CUDA, CUDA_MANAGED, CUDA_HOST):
                with pytest.raises(BufferError, match="cannot be passed on"):
                    buffer.__dlpack__(dl_device=device)
            with pytest.raises(BufferError):
                buffer.__dlpack__(dl_device=CPU, copy=False)

    @pytest.mark.parametrize(
        ("text", "device", "allowed"),
        [
            ("managed", CUDA_MANAGED, True),
            ("managed", CUDA_HOST, False),
            ("managed", (13, 1), False),
            ("pinned", CUDA_HOST, True),
            ("pinned", CUDA_MANAGED, False),
            ("host", CUDA_HOST, False),
            ("host", (1, 1), False),
        ],
    )
    def test_the_device_that_the_consumer_asks_for(self, open_stack, text, device, allowed):
        with open_stack(text).allocate(10) as buffer:
            if not allowed:
                with pytest.raises(BufferError):
                    buffer.__dlpack__(dl_device=device)
                return
            tensor = Capsule(buffer.__dlpack__(dl_device=device, max_version=(1, 0))).tensor
            assert (tensor.device_type, tensor.device_id) == device
            del tensor

    def test_versions(self, open_stack):
        with open_stack("managed").allocate(10) as buffer:
            for version, name in [(None, "dltensor"), ((0, 8), "dltensor"), ((1, 0), "dltensor_versioned"), ((2, 3), "dltensor_versioned")]:
                capsule = Capsule(buffer.__dlpack__(max_version=version))
                assert capsule.name == name
                tensor = capsule.tensor
                assert (tensor.data, tensor.ndim, tensor.shape[0], tensor.strides[0]) == (buffer.ptr, 1, 10, 1)
                assert (tensor.code, tensor.bits, tensor.lanes, tensor.byte_offset) == (1, 8, 1, 0)
                del tensor, capsule
            assert Capsule(buffer.__dlpack__(max_version=(1, 0))).flags == 0
            assert Capsule(buffer.__dlpack__(max_version=(1, 0), copy=True)).flags == 2, "copied"

    def test_a_capsule_that_nothing_consumes_is_freed(self, open_stack):
        stack = open_stack("managed")
        for version in (None, (1, 0)):
            capsule = stack.allocate(10).__dlpack__(max_version=version)
            assert stack.counters.live_blocks == 1
            del capsule
            assert stack.counters.live_blocks == 0

    @pytest.mark.parametrize("stream", [0, 1, 2, 7])
    def test_memory_of_the_host_has_no_stream(self, open_stack, stream):
        with open_stack("managed").allocate(10) as buffer, pytest.raises(ValueError, match="no stream"):
            buffer.__dlpack__(stream=stream)


class Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class Versioned(ctypes.Structure):
    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", Tensor),
    ]


class Capsule:
    """Reads a capsule of DLPack as a consumer in C does."""

    def __init__(self, capsule):
        self.capsule = capsule
        api = ctypes.pythonapi
        api.PyCapsule_GetName.restype = ctypes.c_char_p
        api.PyCapsule_GetName.argtypes = [ctypes.py_object]
        api.PyCapsule_GetPointer.restype = ctypes.c_void_p
        api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
        name = api.PyCapsule_GetName(capsule)
        self.name = name.decode()
        self.pointer = api.PyCapsule_GetPointer(capsule, name)

    @property
    def tensor(self):
        if self.name == "dltensor":
            return Tensor.from_address(self.pointer)
        managed = Versioned.from_address(self.pointer)
        assert (managed.major, managed.minor) == (1, 0)
        return managed.tensor

    @property
    def flags(self):
        return Versioned.from_address(self.pointer).flags
