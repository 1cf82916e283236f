#!/usr/bin/env bash
# Runs the fuzz targets of fuzz/, one after the other, with AddressSanitizer. Needs a nightly compiler and
# `cargo install --locked cargo-fuzz`. Inputs that find something new are kept in fuzz/corpus, those that fail in
# fuzz/artifacts. A first corpus is written if there is none: the files of fuzz/seeds, and random bytes, which
# are long programs, because libFuzzer by itself begins with the shortest.
#
#   ci/fuzz.sh SECONDS          each target for so many seconds
#   ci/fuzz.sh SECONDS TARGET.. those targets
#   NIGHTLY=nightly-2026-05-15 ci/fuzz.sh 60      with another toolchain of rustup
set -euo pipefail
cd "$(dirname "$0")/.."

case ${1-} in
    '' | *[!0-9]*) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
esac
seconds=$1
shift
toolchain=+${NIGHTLY:-nightly}
if [ $# -eq 0 ]; then
    mapfile -t targets < <(cargo "$toolchain" fuzz list)
    set -- "${targets[@]}"
fi
for target; do
    echo "== $target, $seconds seconds"
    corpus=fuzz/corpus/$target
    if [ ! -d "$corpus" ]; then
        mkdir -p "$corpus"
        [ ! -d "fuzz/seeds/$target" ] || cp "fuzz/seeds/$target"/* "$corpus"
        python3 -c '
import random, sys
for seed in range(32):
    with open(f"{sys.argv[1]}/random-{seed}", "wb") as file:
        file.write(bytes(1) + random.Random(seed).randbytes(32 * (seed + 1)))
' "$corpus"
    fi
    cargo "$toolchain" fuzz run "$target" "$corpus" -- \
        -max_total_time="$seconds" -timeout=20 -rss_limit_mb=4096 -print_final_stats=1
done
