#!/usr/bin/env bash
# Compiles RMM's own tests of a memory resource (basic, allocation, threads) over cumem.hpp, with the headers of the librmm
# wheel. The result needs a GPU, and no compiler: FOLDER/rmm_mr_ref beside the libraries that it loads.
#
#   ci/rmm_mr_ref.sh RMM FOLDER     RMM is a checkout of rapidsai/rmm
#   RMM_VERSION=26.8 ci/rmm_mr_ref.sh RMM FOLDER
#
# Needs pip, a C++20 compiler and GoogleTest. RMM_VERSION is the version of the wheel, which the checkout must fit.
set -euo pipefail
case ${2:-} in '' | -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2 ;; esac
rmm=$(cd "$1" && pwd)
mkdir -p "$2"
out=$(cd "$2" && pwd)
cd "$(dirname "$0")/.."

[ -e "$rmm/cpp/tests/mr/cccl_mr_ref_test_basic.hpp" ] || { echo "$rmm has no tests of RMM" >&2; exit 1; }
wheels=$out/wheels
pip install --quiet --no-deps --upgrade --target "$wheels" "librmm-cu13==${RMM_VERSION:-26.8}.*" rapids-logger \
    'nvidia-cuda-runtime==13.0.*' 'nvidia-cuda-crt==13.0.*'
capi/install.sh "${CARGO_TARGET_DIR:-$PWD/target}/capi" | tail -n 1
installed=${CARGO_TARGET_DIR:-$PWD/target}/capi

"${CXX:-c++}" -std=c++20 -O1 -o "$out/rmm_mr_ref" capi/tests/rmm_mr_ref.cpp \
    "-I$installed/include" "-I$rmm/cpp/tests/mr" "-I$wheels/librmm/include" "-I$wheels/librmm/include/rapids" \
    "-I$wheels/rapids_logger/include" "-I$wheels/nvidia/cu13/include" \
    "-L$installed/lib" -lcumem "$wheels/librmm/lib64/librmm.so" "$wheels/rapids_logger/lib64/librapids_logger.so" \
    "$wheels/nvidia/cu13/lib/libcudart.so.13" -lgtest -lgtest_main -lpthread -Wl,-rpath,'$ORIGIN'
cp -L "$installed/lib/libcumem.so.0" "$wheels/librmm/lib64/librmm.so" "$wheels/rapids_logger/lib64/librapids_logger.so" \
    "$wheels/nvidia/cu13/lib/libcudart.so.13" "$out/"
strip --strip-debug "$out/libcumem.so.0"
rm -rf "$wheels"
echo "$out/rmm_mr_ref has $("$out/rmm_mr_ref" --gtest_list_tests | grep -c '^  ') tests"
