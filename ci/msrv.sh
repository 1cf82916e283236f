#!/usr/bin/env bash
# Checks everything with the oldest compiler that Cargo.toml promises (`rust-version`).
#
#   ci/msrv.sh                  checks
#   ci/msrv.sh --version        prints that version, for `rustup toolchain install`
set -euo pipefail
cd "$(dirname "$0")/.."

version=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
if [ "${1-}" = --version ]; then
    echo "$version"
    exit
fi
cargo "+$version" check --locked --workspace --all-targets
# What a dependent without a toolkit builds.
cargo "+$version" check --locked --workspace --lib --no-default-features
