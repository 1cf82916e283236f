#!/usr/bin/env bash
# Fails on an import that leads to a higher floor, and on files that import each other in a circle.
#
#   ci/floors.sh                checks every crate against the list of floors in ARCHITECTURE.md
#   ci/floors.sh --help         the format of that list, and the other options
exec python3 "$(dirname "$0")/floors.py" "$@"
