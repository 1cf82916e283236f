#!/usr/bin/env bash
# Packs the test, bench and example binaries into .gpu/, for a GPU machine that has no Rust.
#
#   ci/pack.sh          builds everything in release, strips it, packs it
#   .gpu/run.sh         is what to run there, in the repository's root (see ci/gpu.sh)
#
# x86-64 binaries built here run on every x86-64 Linux with the same or a newer C library, with and without
# a driver: nothing is linked to CUDA.
set -euo pipefail
cd "$(dirname "$0")/.."

out=.gpu
rm -rf "$out"
mkdir -p "$out/bin"

collect() { # KIND, then what to build: copies each executable to bin/KIND-NAME
    local kind=$1
    shift
    cargo "$@" --message-format=json 2>"$out/build.log" |
        sed -n 's/.*"src_path":"\([^"]*\)".*"executable":"\([^"]*\)".*/\1 \2/p' |
        while read -r source executable; do
            # The member and the file say what it is; Cargo's hash says nothing.
            name=$(realpath --relative-to=. "$source" | sed 's,/main\.rs$,,; s,\.rs$,,; s,/,-,g')
            strip -o "$out/bin/$kind.$name" "$executable"
        done || { cat "$out/build.log" >&2; exit 1; }
}

# The compile-error tests and the symbol list need cargo itself.
collect test test --workspace --release --lib --tests --no-run
rm -f "$out"/bin/test.*type_rules "$out"/bin/test.libcuda-tests-symbols
collect example build --release --examples
collect bench bench --profile release --benches --no-run
rm -f "$out/build.log"
cp ci/gpu.sh "$out/run.sh"
# The loader must find no CUDA in them.
for binary in "$out"/bin/*; do
    if ldd "$binary" | grep -q libcuda; then
        echo "$binary is linked to libcuda" >&2
        exit 1
    fi
done
tar -C "$out" -cJf "$out/bin.tar.xz" bin
rm -r "$out/bin"
ls -lh "$out"
