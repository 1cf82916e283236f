#!/usr/bin/env bash
# Runs under Miri the unit tests that need no simulated device. Miri implements neither the reservation of addresses with
# mmap, from which the simulator takes its memory, nor membarrier, which the lock calls; ci/asan.sh and ci/tsan.sh run
# those. Needs `rustup component add miri --toolchain nightly`.
#
#   ci/miri.sh                  those tests
#   ci/miri.sh -p cumem-adaptors --lib pool::heap     what these arguments of `cargo test` name
set -euo pipefail
cd "$(dirname "$0")/.."

toolchain=${NIGHTLY:-nightly}
if ! cargo "+$toolchain" miri --version >/dev/null 2>&1; then
    echo "ci/miri.sh needs Miri: rustup component add miri --toolchain $toolchain" >&2
    exit 1
fi
if [ $# -gt 0 ]; then
    exec cargo "+$toolchain" miri test "$@"
fi
cargo "+$toolchain" miri test -p cumem-adaptors --lib -- \
    pool::classes pool::heap::bins pool::rounding pool::stitch::plan pool::tag pool::untouched size
cargo "+$toolchain" miri test -p cumem-conformance --lib -- live rng
cargo "+$toolchain" miri test -p cumem-replay --lib
