#!/usr/bin/env bash
# Checks the library of each crate by itself: without features, with each feature alone, and with all. Building the whole
# workspace at once would not do, because Cargo then turns a feature on for all crates that one of them asks for.
#
#   ci/features.sh
set -euo pipefail
cd "$(dirname "$0")/.."

export RUSTFLAGS="-D warnings ${RUSTFLAGS-}"
cargo metadata --no-deps --format-version 1 | python3 -c '
import json, sys
for package in json.load(sys.stdin)["packages"]:
    features = sorted(set(package["features"]) - {"default"})
    print(package["name"], "--no-default-features")
    for feature in features:
        print(package["name"], "--no-default-features --features", feature)
    if len(features) > 1:
        print(package["name"], "--all-features")
' | while read -r package flags; do
    echo "== $package $flags"
    # shellcheck disable=SC2086
    cargo check --quiet -p "$package" --lib $flags </dev/null
done
