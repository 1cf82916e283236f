"""Builds the PTX of this repository from its CUDA sources with NVIDIA's run-time compiler, which needs no toolkit and no
C compiler.

    pip install nvidia-cuda-nvrtc-cu12==12.0.140
    python examples/kernels/build.py
"""

import ctypes
import pathlib

import nvidia.cuda_nvrtc

ROOT = pathlib.Path(__file__).parents[2]
# What each needs: the last stores with release order, which begins there.
SOURCES = {"examples/kernels/cosine.cu": 50, "examples/kernels/stencil.cu": 50, "src/transfer/copy.cu": 70}

library = next(pathlib.Path(nvidia.cuda_nvrtc.__path__[0]).glob("lib/libnvrtc.so.*"))
nvrtc = ctypes.CDLL(str(library))
nvrtc.nvrtcGetErrorString.restype = ctypes.c_char_p


def check(code):
    if code != 0:
        raise SystemExit(nvrtc.nvrtcGetErrorString(code).decode())


def text(program, size_of, get):
    size = ctypes.c_size_t()
    check(size_of(program, ctypes.byref(size)))
    buffer = ctypes.create_string_buffer(size.value)
    check(get(program, buffer))
    return buffer.value.decode()


for path, capability in SOURCES.items():
    source = ROOT / path
    program = ctypes.c_void_p()
    name = source.name.encode()
    check(nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.read_bytes(), name, 0, None, None))
    options = (ctypes.c_char_p * 2)(f"--gpu-architecture=compute_{capability}".encode(), b"--std=c++17")
    code = nvrtc.nvrtcCompileProgram(program, len(options), options)
    print(text(program, nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog), end="")
    check(code)
    source.with_suffix(".ptx").write_text(text(program, nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX))
