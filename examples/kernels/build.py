"""Builds the PTX of this repository from its CUDA sources with NVIDIA's run-time compiler, which needs no toolkit and no
C compiler.

    pip install nvidia-cuda-nvrtc-cu12==12.0.140
    python examples/kernels/build.py
"""

import ctypes
import pathlib

import nvidia.cuda_nvrtc

ROOT = pathlib.Path(__file__).parents[2]
SOURCES = [ROOT / path for path in ("examples/kernels/cosine.cu", "examples/kernels/stencil.cu", "src/transfer/copy.cu")]
OPTIONS = [b"--gpu-architecture=compute_50", b"--std=c++17"]

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


for source in SOURCES:
    program = ctypes.c_void_p()
    name = source.name.encode()
    check(nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.read_bytes(), name, 0, None, None))
    options = (ctypes.c_char_p * len(OPTIONS))(*OPTIONS)
    code = nvrtc.nvrtcCompileProgram(program, len(OPTIONS), options)
    print(text(program, nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog), end="")
    check(code)
    source.with_suffix(".ptx").write_text(text(program, nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX))
