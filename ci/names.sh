#!/usr/bin/env bash
# Fails if two public types of the workspace have the same name, in different crates or in different modules of one
# crate. `Device` is the exception: `cumem::Device` is the handle, `cumem::kind::Device` is a kind of memory.
#
#   ci/names.sh
set -euo pipefail
cd "$(dirname "$0")/.."

# Types that are `pub(crate)` or `pub(super)` may share a name.
types=$(git ls-files -co --exclude-standard -- 'src/*.rs' '*/src/*.rs' ':!fuzz' ':!tests' |
    xargs grep -nE '^\s*pub (unsafe )?(struct|enum|trait|union|type) [A-Z]\w*' |
    sed -E 's/^([^:]+:[0-9]+):\s*pub (unsafe )?(struct|enum|trait|union|type) ([A-Za-z0-9_]+).*/\4 \1/' | sort)
twice=$(cut -d' ' -f1 <<<"$types" | uniq -d | grep -vx Device || true)
for name in $twice; do
    echo "$name is the name of several public types:" $(sed -n "s/^$name //p" <<<"$types") >&2
done
[ -z "$twice" ]
echo "$(cut -d' ' -f1 <<<"$types" | sort -u | wc -l) public types, no two of one name but Device"
