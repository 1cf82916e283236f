#!/usr/bin/env bash
# The C interface, as a C program sees it: builds and installs the library, checks the symbols that it exports, and compiles
# and runs the examples and the tests in C and C++. Needs a C and a C++ compiler, binutils, and no GPU.
#
#   ci/capi.sh
#   CUMEM_CCCL='-I.. -I..' ci/capi.sh     also compiles cumem.hpp with the headers of CCCL, RMM and the CUDA runtime there
#   ASAN=1 ci/capi.sh                     with AddressSanitizer in the programs
set -euo pipefail
cd "$(dirname "$0")/.."

at=${CARGO_TARGET_DIR:-$PWD/target}/capi
capi/install.sh "$at" | tail -n 1
out=$at/programs
mkdir -p "$out"

# Exactly the functions of the header, in both libraries, and none of the driver.
declared=$(grep -oE '\bcumem_[a-z_]+\(' capi/include/cumem.h | tr -d '(' | sort -u)
for list in "nm -D --defined-only $at/lib/libcumem.so" "nm -g --defined-only $at/lib/libcumem.a"; do
    exported=$($list 2>/dev/null | awk 'NF == 3 { print $3 }' | sort -u)
    if ! diff <(echo "$declared") <(echo "$exported"); then
        echo "the header (<) and the symbols of the library (>) differ: $list" >&2
        exit 1
    fi
done
echo "$(wc -l <<<"$declared") functions in the header and in both libraries"

flags=(-Wall -Wextra -Werror -O1 -g "-I$at/include")
[ -z "${ASAN:-}" ] || flags+=(-fsanitize=address,undefined)
shared=("-L$at/lib" -lcumem "-Wl,-rpath,$at/lib" -lpthread)
static=("$at/lib/libcumem.a" -lpthread -ldl -lm)

run() { # NAME COMPILER STANDARD SOURCE LIBRARY..: compiles a program and runs it
    "$2" "-std=$3" "${flags[@]}" -o "$out/$1" "$4" "${@:5}"
    echo "-- $1"
    "$out/$1"
}
run histogram "${CC:-cc}" c11 capi/examples/histogram.c "${shared[@]}"
run histogram-static "${CC:-cc}" c11 capi/examples/histogram.c "${static[@]}"
run pipeline "${CXX:-c++}" c++17 capi/examples/pipeline.cpp "${shared[@]}"
run conformance "${CC:-cc}" c11 capi/tests/conformance.c "${shared[@]}"
CUMEM_PROFILE=a100 CUMEM_STACK='device | pool' run torch "${CXX:-c++}" c++17 capi/tests/torch.cpp "${shared[@]}"
if [ -n "${CUMEM_CCCL:-}" ]; then
    # shellcheck disable=SC2086 # several options
    run cccl "${CXX:-c++}" c++17 capi/tests/cccl.cpp $CUMEM_CCCL "${shared[@]}"
fi
if command -v pkg-config >/dev/null; then
    options=$(PKG_CONFIG_PATH=$at/lib/pkgconfig pkg-config --cflags --libs cumem)
    [[ $options == *"-I$at/include"* && $options == *-lcumem* ]]
fi
if command -v cmake >/dev/null; then
    mkdir -p "$out/cmake"
    printf '%s\n' 'cmake_minimum_required(VERSION 3.15)' 'project(user C)' 'find_package(cumem 0.1 REQUIRED)' \
        "add_executable(histogram $PWD/capi/examples/histogram.c)" 'target_link_libraries(histogram cumem::cumem)' \
        >"$out/cmake/CMakeLists.txt"
    cmake -S "$out/cmake" -B "$out/cmake/build" "-DCMAKE_PREFIX_PATH=$at" >/dev/null
    cmake --build "$out/cmake/build" >/dev/null
    "$out/cmake/build/histogram" >/dev/null
fi
echo 'the C interface is in order'
