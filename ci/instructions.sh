#!/usr/bin/env bash
# Counts the instructions of a few operations with callgrind, here and at an earlier revision. Instruction counts repeat
# from run to run on a noisy machine, where times do not.
#
#   ci/instructions.sh            the working tree
#   ci/instructions.sh REVISION   the working tree beside REVISION, which is built with this tree's benches/instructions.rs
#
# Needs valgrind.
set -euo pipefail
cd "$(dirname "$0")/.."
case ${1:-} in -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit ;; esac
base=${1:-}
operations=(pair address_pair stack random_allocations driver_pool warm_prefetch small_upload)
declare -A repetitions=([pair]=20000 [address_pair]=20000 [stack]=20000 [random_allocations]=20000 [driver_pool]=20000 [warm_prefetch]=20000 [small_upload]=2000 [capi_pair]=20000 [capi_stream]=20000)

build() { # FOLDER: prints the program
    (cd "$1" && cargo bench --no-run --bench instructions --message-format=json 2>/dev/null) |
        sed -n 's/.*"name":"instructions".*"executable":"\([^"]*\)".*/\1/p' | tail -n 1
}

instructions() { # PROGRAM OPERATION REPETITIONS
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$1" "$2" "$3" 2>&1 | sed -n 's/.*Collected : //p'
}

of() { # PROGRAM OPERATION: instructions of one repetition
    local n=${repetitions[$2]} once twice
    once=$(instructions "$1" "$2" "$n")
    twice=$(instructions "$1" "$2" $((2 * n)))
    awk -v once="$once" -v twice="$twice" -v n="$n" 'BEGIN { printf "%.1f", (twice - once) / n }'
}

# Pairs through the C interface: a C program that links with the shared library.
capi() { # FOLDER OPERATION: instructions of one repetition
    local out=${CARGO_TARGET_DIR:-$PWD/target}/instructions-c
    (cd "$1" && capi/install.sh "$out" >/dev/null 2>&1)
    "${CC:-cc}" -O2 "-I$out/include" -o "$out/pair" "$1/capi/benches/pair.c" "-L$out/lib" -lcumem "-Wl,-rpath,$out/lib"
    of "$out/pair" "$2"
}

here=$(build .)
if [ -n "$base" ]; then
    copy=$(mktemp -d)
    trap 'git worktree remove --force "$copy" 2>/dev/null; rm -rf "$copy"' EXIT
    git worktree add --quiet --force --detach "$copy" "$base"
    cp benches/instructions.rs "$copy/benches/"
    grep -q '^name = "instructions"' "$copy/Cargo.toml" ||
        sed -i '0,/^\[\[bench\]\]/s//[[bench]]\nname = "instructions"\nharness = false\n\n[[bench]]/' "$copy/Cargo.toml"
    before=$(CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}/instructions build "$copy")
    printf '%-20s %12s %12s %8s\n' "instructions of one" "$base" "this tree" change
    for operation in "${operations[@]}"; do
        old=$(of "$before" "$operation")
        new=$(of "$here" "$operation")
        awk -v o="$operation" -v a="$old" -v b="$new" \
            'BEGIN { printf "%-20s %12s %12s %+7.1f%%\n", o, a, b, (b / a - 1) * 100 }'
    done
else
    for operation in "${operations[@]}"; do printf '%-20s %12s\n' "$operation" "$(of "$here" "$operation")"; done
    for operation in capi_pair capi_stream; do printf '%-20s %12s\n' "$operation" "$(capi . "$operation")"; done
fi
