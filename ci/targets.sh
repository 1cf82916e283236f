#!/usr/bin/env bash
# Checks for other systems that the simulated device and all layers compile without warnings, and on AArch64 Linux also
# the feature `cuda`. Nothing runs. A target whose standard library is not installed is skipped with a line that names it.
#
#   ci/targets.sh               the targets that are installed
#   ci/targets.sh --add         first installs them with rustup
set -euo pipefail
cd "$(dirname "$0")/.."

targets=(aarch64-unknown-linux-gnu aarch64-apple-darwin x86_64-apple-darwin x86_64-pc-windows-msvc)
case ${1-} in
    --add) rustup target add "${targets[@]}" ;;
    '') ;;
    *) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
esac

export RUSTFLAGS="-D warnings ${RUSTFLAGS-}"
crates=(-p cumem -p cumem-adaptors -p cumem-conformance -p cumem-replay -p cumem-whatif)
for target in "${targets[@]}"; do
    if [ ! -d "$(rustc --print target-libdir --target "$target")" ]; then
        echo "$target: skipped, because its standard library is not installed: rustup target add $target"
        continue
    fi
    cargo check --quiet --target "$target" --lib "${crates[@]}"
    case $target in
        *-linux-*) cargo check --quiet --target "$target" --lib -p cumem --features cuda ;;
    esac
    echo "$target: compiles"
done
