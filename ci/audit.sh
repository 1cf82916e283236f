#!/usr/bin/env bash
# Checks the dependencies against deny.toml: known vulnerabilities, licenses, duplicates, sources. Needs
# `cargo install --locked cargo-deny`, and fetches the list of vulnerabilities.
#
#   ci/audit.sh                 everything
#   ci/audit.sh licenses        one part: advisories, bans, licenses or sources
set -euo pipefail
cd "$(dirname "$0")/.."

cargo deny --all-features check "$@"
