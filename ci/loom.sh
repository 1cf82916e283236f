#!/usr/bin/env bash
# Runs the pool, the lock and the counters under loom, which tries all interleavings of a few threads.
#
#   ci/loom.sh                  all such tests
#   ci/loom.sh NAME             those whose names contain NAME
#   LOOM_MAX_PREEMPTIONS=3 ci/loom.sh     fewer interleavings, much sooner
set -euo pipefail
cd "$(dirname "$0")/.."

RUSTFLAGS="--cfg loom ${RUSTFLAGS-}" cargo test --release -p cumem-adaptors --lib "interleavings${1+::}${1-}"
