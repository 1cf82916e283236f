#!/usr/bin/env bash
# Packages every crate of the workspace as `cargo publish` would, and checks the packages outside of the repository:
# each holds both licenses and a README, and the documentation builds as docs.rs builds it, without a CUDA toolkit.
#
#   ci/package.sh               packages without building them, then documents cumem with the nightly compiler
#   ci/package.sh --verify      also builds each package against the other packages (several minutes)
#   NIGHTLY=nightly-2026-05-15 ci/package.sh     documents with another toolchain of rustup
set -euo pipefail
cd "$(dirname "$0")/.."

verify=(--no-verify)
case ${1-} in
    --verify) verify=() ;;
    '') ;;
    *) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
esac

packages=$(mktemp -d)
trap 'rm -rf "$packages"' EXIT
target=${CARGO_TARGET_DIR:-target}
rm -rf "$target/package"
cargo publish --dry-run --workspace "${verify[@]}"
# The same packages, where they can be found: all crates but those with `publish = false`.
mapfile -t private < <(cargo metadata --no-deps --format-version 1 | python3 -c '
import json, sys
print(*("--exclude=" + p["name"] for p in json.load(sys.stdin)["packages"] if p["publish"] == []), sep="\n")')
cargo package --quiet --workspace "${private[@]}" --no-verify

mkdir "$packages/.cargo"
echo '[patch.crates-io]' >"$packages/.cargo/config.toml"
for crate in "$target"/package/*.crate; do
    tar -C "$packages" -xzf "$crate"
    folder=$(basename "$crate" .crate)
    for file in LICENSE-MIT LICENSE-APACHE README.md Cargo.toml; do
        # A link would point out of the package.
        if [ ! -f "$packages/$folder/$file" ] || [ -L "$packages/$folder/$file" ]; then
            echo "$folder: no $file in the package" >&2
            exit 1
        fi
    done
    echo "${folder%-*} = { path = \"$packages/$folder\" }" >>"$packages/.cargo/config.toml"
    echo "$folder: $(tar -tzf "$crate" | wc -l) files, $(stat -c %s "$crate") bytes"
done

# As docs.rs: the nightly compiler, DOCS_RS and --cfg docsrs, the features of [package.metadata.docs.rs], and no
# toolkit. The folders where the build script of cust looks first do not exist here; this repository's .cargo/config.toml,
# which names a stand-in, is not above the unpacked packages.
export DOCS_RS=1 CUDA_LIBRARY_PATH=/nonexistent RUSTDOCFLAGS='--cfg docsrs -D warnings'
export CARGO_TARGET_DIR=$packages/target
(cd "$packages"/cumem-[0-9]* && cargo "+${NIGHTLY:-nightly}" doc --no-deps --lib --features cuda)
# The bridge to cust is methods of Stream, so this page has an item of the feature, and says that it is one.
page=$packages/target/doc/cumem/struct.Stream.html
for text in 'method.as_cust\|method.launch' 'Available on <strong>crate feature <code>cuda</code></strong> only'; do
    grep -q "$text" "$page" || { echo "struct.Stream.html does not hold: $text" >&2; exit 1; }
done
echo 'packages: licenses, READMEs and hosted documentation are in order'
