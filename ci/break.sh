#!/usr/bin/env bash
# Breaks the rules of the pool's streams, and of the lock, one at a time, in a copy, and shows which tests see it. Fails if one goes
# unseen, or if a break no longer applies to the source.
#
#   ci/break.sh          the tests of threads, streams and stitches, the conformance suite, and loom
set -euo pipefail
cd "$(dirname "$0")/.."

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git ls-files -z | xargs -0 cp --parents -t "$copy"
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}/break
unseen=0

fails() { # NAME, then a test command: says whether it fails
    local name=$1 log=$copy/log
    shift
    # Built without a limit: the time that a busy machine takes for it says nothing.
    if ! (cd "$copy" && "$1" "$2" --no-run "${@:3}") >"$log" 2>&1; then
        cat "$log" >&2
        exit 1
    fi
    if (cd "$copy" && timeout 600 "$@") >"$log" 2>&1; then return 1; fi
    local tests
    tests=$(grep '^test .* FAILED$' "$log" | awk '{ print $2 }' | paste -sd' ' || true)
    printf '    seen by %s: %s\n' "$name" "${tests:-$(tail -n 3 "$log")}"
}

seen() {
    local by=1
    fails streams cargo test --release -p cumem-adaptors --test pool -- streams programs && by=0
    fails conformance cargo test --release -p cumem-adaptors --test layers -- conformance::pool conformance::slabs_in_a_pool && by=0
    fails stitching cargo test --release -p cumem --test stacks -- stitching && by=0
    LOOM_MAX_PREEMPTIONS=3 RUSTFLAGS='--cfg loom' CARGO_TARGET_DIR=$CARGO_TARGET_DIR-loom \
        fails loom cargo test --release -p cumem-adaptors --lib interleavings && by=0
    return $by
}

break_() { # WHAT, FILE in adaptors/src, PATTERN (Perl, over the whole file), REPLACEMENT
    local what=$1 file=$copy/adaptors/src/$2
    printf '%s\n' "$what"
    cp "$file" "$copy/whole"
    PATTERN=$3 REPLACEMENT=$4 perl -0pi -e 's/$ENV{PATTERN}/$ENV{REPLACEMENT}/ or die "nothing to break\n"' "$file"
    seen || { unseen=1; echo '    NOT SEEN'; }
    cp "$copy/whole" "$file"
}

printf 'nothing broken\n'
if seen; then
    echo 'the tests fail as it is' >&2
    exit 1
fi
break_ 'a stream does not wait for the fences of what it is given' \
    pool/fence.rs 'stream\.wait\(&fence\.event\)\?;' ''
break_ 'memory passes to every stream at once' \
    pool/fence.rs '\.all\(\|fence\| fence\.stream == stream \|\| fence\.is_reached\(\)\)' '.all(|fence| fence.stream == stream || true)'
break_ 'no event is recorded when memory leaves a stream' \
    pool/state.rs 'if is_idle\(stream\)(?= \{\n            return Ok)' 'if stream.is_idle().is_ok()'
break_ 'memory taken from the heap of another stream comes without its fences' \
    pool/state.rs 'return Some\(Taken \{ region, fences \}\);' 'return Some(Taken { region, fences: Fences::default() });'
break_ 'memory of a stream that is at work is taken as if it were idle' \
    pool/state.rs 'is_idle\(&stream\)\.then\(Fences::default\)' 'is_idle(&stream).then(Fences::default).or_else(|| Some(Fences::default()))'
break_ 'what streams at work have free is collected as if they were idle' \
    pool/state.rs 'is_none_or\(\|stream\| is_idle\(&stream\)\)' 'is_none_or(|stream| stream.is_idle().is_ok())'
break_ 'what nobody had of a chunk is given away without the event of its growth' \
    pool/state.rs 'arena\.insert\(addr, units, apart, fences\)' 'arena.insert(addr, units, apart, { drop(fences); Fences::default() })'
break_ 'what is stitched comes without its fences' \
    pool/stitch.rs 'fences\.join\(&own\.expect\("the plan is of what is in the arena"\)\);' 'own.expect("nothing is waited for");'
break_ 'what comes home from a stitch comes without its fences' \
    pool/stitch.rs '(?<=chunks\.apart\(start\), )fences\.clone\(\)' 'Fences::default()'
break_ 'the addresses of a stitch go before the work that uses them is done' \
    pool/stitch.rs 'stitch\.used\.join\(&fences\);' ''
break_ 'stitches that touch are used as one' \
    pool/stitch.rs 'head: true' 'head: false'
break_ 'a chunk goes back while it is mapped a second time' \
    pool/miss.rs 'if covered\.contains\(&addr\) \{\n                continue;\n            \}' ''
break_ 'a stream allocates from a slot that it was bound to once' \
    pool.rs 'local\.serves\(stream\.id\(\)\)(?=\n                && let Some)' 'true'
break_ 'a block freed on another stream stays in its heap' \
    pool.rs 'local\.serves\(stream\.id\(\)\)(?= && local\.has_live)' 'true'
break_ 'an owner enters without a barrier' \
    lock.rs 'barrier::light\(\);' ''
break_ 'whoever takes the ownership away does not wait' \
    lock.rs 'owner\.inside\.wait_while_in\(self\.number\(\)\);' ''
break_ 'a thread that is inside of one lock as its owner enters another as its owner' \
    lock.rs '\n            && me\.inside\.is_free\(\)' ''
break_ 'two threads have one presence' \
    lock/presence.rs '\.pop\(\)' '.last().copied()'
exit $unseen
