#!/usr/bin/env bash
# Runs unit and integration tests with ThreadSanitizer. The standard library is built with it too, because the sanitizer
# reports races that are none between instrumented and other code. Needs `rustup component add rust-src`.
#
#   ci/tsan.sh                  the tests of the driver, the simulator, the core and the adaptors
#   ci/tsan.sh -p cumem-adaptors --test pool streams      what these arguments of `cargo test` name
set -euo pipefail
cd "$(dirname "$0")/.."

if [ ! -d "$(rustc --print sysroot)/lib/rustlib/src/rust/library" ]; then
    echo 'ci/tsan.sh needs the source of the standard library: rustup component add rust-src' >&2
    exit 1
fi
if [ $# -eq 0 ]; then
    set -- -p cumem-driver -p cumem-sim -p cumem -p cumem-adaptors --lib --tests
fi
# Some tests ask for more memory than any machine has, and expect an error; one forks with threads running.
export TSAN_OPTIONS="allocator_may_return_null=1 die_after_fork=0${TSAN_OPTIONS+ $TSAN_OPTIONS}"
RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=thread ${RUSTFLAGS-}" \
    cargo test -Zbuild-std --target x86_64-unknown-linux-gnu "$@"
