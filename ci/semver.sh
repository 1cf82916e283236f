#!/usr/bin/env bash
# Compares the public interface with that of a release, and fails if the versions do not allow the difference. Needs
# `cargo install --locked cargo-semver-checks`.
#
#   ci/semver.sh                with the last tag that is called v*
#   ci/semver.sh REV            with a revision
#   ci/semver.sh --baseline     prints that tag, or nothing before the first release
set -euo pipefail
cd "$(dirname "$0")/.."

baseline=$(git describe --tags --abbrev=0 --match 'v*' 2>/dev/null || true)
if [ "${1-}" = --baseline ]; then
    echo "$baseline"
    exit
fi
baseline=${1-$baseline}
if [ -z "$baseline" ]; then
    echo 'ci/semver.sh: there is no release to compare with (no tag v*); name a revision' >&2
    exit 1
fi
# The crates are built in another folder, where .cargo/config.toml does not apply.
CUDA_LIBRARY_PATH=${CUDA_LIBRARY_PATH-$PWD/libcuda/stub} cargo semver-checks --workspace --baseline-rev "$baseline"
