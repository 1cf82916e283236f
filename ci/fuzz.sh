#!/usr/bin/env bash
# Runs the fuzz targets of fuzz/, one after the other, with AddressSanitizer. Needs a nightly compiler and
# `cargo install --locked cargo-fuzz`. Inputs that find something new are kept in fuzz/corpus, those that fail in
# fuzz/artifacts.
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
    mkdir -p "fuzz/corpus/$target"
    seeds=()
    [ ! -d "fuzz/seeds/$target" ] || seeds=("fuzz/seeds/$target")
    cargo "$toolchain" fuzz run "$target" "fuzz/corpus/$target" "${seeds[@]}" -- \
        -max_total_time="$seconds" -timeout=20 -rss_limit_mb=4096 -print_final_stats=1
done
