#!/usr/bin/env bash
# Runs unit and integration tests with AddressSanitizer, on the stable compiler (RUSTC_BOOTSTRAP permits the flag).
#
#   ci/asan.sh                  the tests of the driver, the simulator, the core and the adaptors
#   ci/asan.sh -p cumem-adaptors --test pool streams      what these arguments of `cargo test` name
set -euo pipefail
cd "$(dirname "$0")/.."

if [ $# -eq 0 ]; then
    set -- -p cumem-driver -p cumem-sim -p cumem -p cumem-adaptors --lib --tests
fi
# Some tests ask for more memory than any machine has, and expect an error.
export ASAN_OPTIONS=allocator_may_return_null=1${ASAN_OPTIONS+:$ASAN_OPTIONS}
RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address ${RUSTFLAGS-}" cargo test --target x86_64-unknown-linux-gnu "$@"
