#!/usr/bin/env bash
# Runs what ci/pack.sh packed, on a machine with a GPU and no Rust, in the repository's root.
#
#   .gpu/run.sh                 tests (GPU tests included), examples, traces
#   .gpu/run.sh tests|examples|benches|traces ...
#
# TRACES is a folder of allocation traces to replay besides those of the repository.
set -uo pipefail
cd "$(dirname "$0")/.."
tar -C .gpu -xJf .gpu/bin.tar.xz
bin=.gpu/bin
failed=0

run() {
    printf '\n$ %s\n' "$*"
    "$@" || { echo "FAILED with $?: $*"; failed=1; }
}

# One test at a time, because tests that run together can use much managed memory of a GPU that others share.
tests() {
    for test in "$bin"/test.*; do
        run "$test" --include-ignored --test-threads=1
    done
}

# Every example that runs on a GPU, except replay (see traces). uvm_calibrate uses the most managed memory: 2 GiB.
# what_if, larger_than_vram, uvm_trace and uvm_experiments run on the simulated device only.
examples() {
    run "$bin/example.examples-quickstart"
    run "$bin/example.examples-device_defaults"
    run "$bin/example.examples-batch_recall" --device cuda
    run "$bin/example.examples-batch_recall" --device sim
    run "$bin/example.examples-batch_recall" --device cuda --batch-mib 100 --batches 16
    run "$bin/example.examples-multi_gpu"
    run "$bin/example.examples-auto_prefetch" --device cuda --slab-mib 32 --slabs 32 --repeat 3
    run "$bin/example.examples-write_an_adaptor"
    run "$bin/example.examples-write_a_leaf"
    run "$bin/example.examples-uvm_calibrate" --device cuda
    run "$bin/example.examples-uvm_calibrate" --device cuda --fight 40
}

# A replay on the GPU uses less than 4 GiB of managed memory, because others may share the GPU. The size is known from a
# replay on the simulated device, which runs first.
most=$((4 << 30))

traces() {
    local replay="$bin/example.examples-replay" trace stack reserved
    for trace in benches/traces/*.csv.xz ${TRACES:+"$TRACES"/*.csv.xz}; do
        [ -e "$trace" ] || { echo "FAILED: no traces in $TRACES"; failed=1; continue; }
        for stack in 'device | pool' 'managed | pool | limit(80%) | statistics | prefetch'; do
            run "$replay" "$trace" --stack "$stack" --device sim --repeat 3 --format json >.gpu/simulated
            cat .gpu/simulated
            reserved=$(sed -n 's/.*"peak_reserved_bytes":\([0-9]*\).*/\1/p' .gpu/simulated)
            if [ "${stack%% *}" = managed ] && [ "${reserved:-$most}" -ge "$most" ]; then
                echo "skipped on the GPU: $trace reserves $reserved bytes of managed memory, 4 GiB or more"
                continue
            fi
            run "$replay" "$trace" --stack "$stack" --device cuda --repeat 3 --format json
        done
    done
}

benches() {
    for bench in "$bin"/bench.benches-*; do
        CUMEM_DEVICE=cuda run "$bench" --bench --noplot
    done
}

if [ $# -eq 0 ]; then set -- tests examples traces; fi
for part in "$@"; do "$part"; done
exit $failed
