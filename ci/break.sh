#!/usr/bin/env bash
# Mutation tests of the pool, its lock and the counters. The script breaks one rule at a time in a copy of the repository,
# runs the tests, and prints which tests fail. It fails if no test detects a break, or if a break no longer applies to the
# source.
#
#   ci/break.sh               all breaks; runs the tests of threads, streams, stitches and counters, the conformance suite,
#                             and loom
#   ci/break.sh WORDS         the breaks whose description contains WORDS
#   ci/break.sh --first ..    ends the tests of a break at the first group of tests that detects the break
#   ci/break.sh --check ..    runs no test: only checks that each break applies to the source
set -euo pipefail
cd "$(dirname "$0")/.."

mode=
case ${1-} in
    --first | --check) mode=$1; shift ;;
    -*) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
esac
only=${1-}
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git ls-files -z | xargs -0 cp --parents -t "$copy"
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}/break
undetected=0

fails() { # NAME, then a test command. Succeeds if the command fails.
    local name=$1 log=$copy/log
    shift
    # The build has no time limit, because a slow build is no test failure.
    if ! (cd "$copy" && "$1" "$2" --no-run "${@:3}") >"$log" 2>&1; then
        cat "$log" >&2
        exit 1
    fi
    if (cd "$copy" && timeout 600 "$@") >"$log" 2>&1; then return 1; fi
    local tests
    tests=$(grep '^test .* FAILED$' "$log" | awk '{ print $2 }' | paste -sd' ' || true)
    printf '    detected by %s: %s\n' "$name" "${tests:-$(tail -n 3 "$log")}"
}

run() { # GROUP: runs its tests. Succeeds if any of them fails.
    case $1 in
        streams) fails "$1" cargo test --release -p cumem-adaptors --test pool -- streams programs full ended serialising capacity record_use ;;
        counters) fails "$1" cargo test --release -p cumem-adaptors --lib -- headroom per_thread ;;
        layers) fails "$1" cargo test --release -p cumem-adaptors --test layers -- counters limiter pressure statistics faults spill panics leaks logging tracking profiler failure reservation ;;
        reentrance) fails "$1" cargo test --release -p cumem-adaptors --test reentrance ;;
        races) fails "$1" cargo test --release -p cumem --test sim -- planted ;;
        conformance) fails "$1" cargo test --release -p cumem-adaptors --test layers -- conformance::pool conformance::slabs_in_a_pool ;;
        stitching) fails "$1" cargo test --release -p cumem --test stacks -- stitching ;;
        loom)
            LOOM_MAX_PREEMPTIONS=3 RUSTFLAGS='--cfg loom' CARGO_TARGET_DIR=$CARGO_TARGET_DIR-loom \
                fails "$1" cargo test --release -p cumem-adaptors --lib interleavings
            ;;
    esac
}

groups=(streams counters layers reentrance races conformance stitching loom)
detected() { # Succeeds if any test fails.
    local by=1 group other
    for group in "${groups[@]}"; do
        run "$group" || continue
        by=0
        if [ "$mode" = --first ]; then
            # Breaks of one file follow each other, so the next one is probably detected by the same group.
            local rest=()
            for other in "${groups[@]}"; do [ "$other" = "$group" ] || rest+=("$other"); done
            groups=("$group" "${rest[@]}")
            return 0
        fi
    done
    return $by
}

break_() { # WHAT, FILE in adaptors/src, PATTERN (a Perl regex over the whole file), REPLACEMENT
    local what=$1 file=$copy/adaptors/src/$2
    [[ $what == *"$only"* ]] || return 0
    printf '%s\n' "$what"
    cp "$file" "$copy/whole"
    PATTERN=$3 REPLACEMENT=$4 perl -0pi -e 's/$ENV{PATTERN}/$ENV{REPLACEMENT}/ or die "nothing to break\n"' "$file"
    [ "$mode" = --check ] || detected || { undetected=1; echo '    NOT DETECTED'; }
    cp "$copy/whole" "$file"
}

if [ "$mode" != --check ]; then
    printf 'nothing broken\n'
    if detected; then
        echo 'the tests fail without a break' >&2
        exit 1
    fi
fi
break_ 'a stream does not wait for the fences of a piece' \
    pool/fence.rs 'stream\.wait\(&fence\.event\)\?;' ''
break_ 'memory is freed without a fence for a recorded use' \
    pool/record_use.rs 'fences\.join\(&Fence::record_use\(&self\.device, used\)\?\.into\(\)\);' ''
break_ 'a stream waits for a recorded use although the pool can grow' \
    pool/request.rs 'self\.waits_for_uses \|\| !fences\.hold_a_use\(\)' 'true'
break_ 'mapped pieces are lost where the upstream panics' \
    pool/grow_in_place.rs 'self\.add_chunks\(mem::take\(&mut mapped\.pieces\), &self\.state\.fence\(stream, true\)\.unwrap_or_default\(\)\);' 'mapped.pieces.clear();'
break_ 'a spill tells blocks of zero bytes apart by their address' \
    spill.rs '\*(self\.out[^;]*)\.entry\(key\(block\)\)\.or_insert\(0\) \+= 1' '_ = self.out.lock().unwrap_or_else(PoisonError::into_inner).insert(key(block), 1)'
break_ 'a wait that is refused while a chunk is freed is not replaced by a wait of the host' \
    pool/fence.rs '\s*\.or_else\(\|_\| self\.0\.iter\(\)\.try_for_each[^\n]*' ''
break_ 'the refusal of a larger chunk is reported, although a smaller one follows' \
    pool/chunks.rs 'unreported\(allocate\)' 'allocate()'
break_ 'a free on another stream locks the slots in any order' \
    pool/cross_stream_free.rs 'from < to' 'from != to'
break_ 'the rows of a log are written part by part' \
    logging/log.rs 'all\.sort_by_key\(Row::order\);' ''
break_ 'the function for a failure calls itself without an end' \
    on_failure/state.rs 'let is_new = !within\.contains\(&state\);' 'let is_new = true;'
break_ 'a reservation that is dropped keeps its bytes' \
    limiter/reservation.rs 'self\.limiter\.state\.release\(\*self\.remaining\.get_mut\(\)\);' ''
break_ 'all threads count warm prefetches in one word' \
    per_thread.rs 'thread_number\(\) % PARTS' '0 * thread_number()'
break_ 'every stream may use a piece at once, whatever its fences' \
    pool/fence.rs '\.all\(\|fence\| fence\.stream == stream \|\| fence\.is_reached\(\)\)' '.all(|fence| fence.stream == stream || true)'
break_ 'no event is recorded when a heap is folded' \
    pool/state.rs 'if is_idle\(stream\)(?= \{\n            return Ok)' 'if stream.is_idle().is_ok()'
break_ 'no event of the device is waited for where a stream cannot be used' \
    pool/state.rs 'fences\.prune\(\);' 'fences = Fences::default();'
break_ 'a stream that cannot be used counts as idle' \
    pool/idle.rs 'fence\.is_ok_and\(\|fence\| fence\.is_reached\(\)\)' 'fence.is_ok()'
break_ 'streams that are gone keep their slots' \
    pool/state.rs 'is_some_and\(KeptStream::is_abandoned\)' 'is_none()'
break_ 'a piece taken from another stream has no fences' \
    pool/state.rs 'return Some\(Piece \{ region, fences \}\);' 'return Some(Piece { region, fences: Fences::default() });'
break_ 'memory of a busy stream is taken as if the stream were idle' \
    pool/state.rs 'query\.is_idle\(&stream\)\.then\(Fences::default\)' 'query.is_idle(&stream).then(Fences::default).or_else(|| Some(Fences::default()))'
break_ 'free memory of busy streams is collected as if the streams were idle' \
    pool/state.rs 'is_none_or\(\|stream\| query\.is_idle\(&stream\)\)' 'is_none_or(|stream| query.is_idle(&stream) || true)'
break_ 'a stream waits for the work of other streams for ever' \
    pool/patience.rs 'self\.waits >= self\.most' 'false'
break_ 'the pool grows for a stream that waits once' \
    pool/patience.rs 'const WAITS: u32 = 3;' 'const WAITS: u32 = 0;'
break_ 'a refused growth is tried again at each miss' \
    pool/patience.rs 'waits: 0, most: \(self' 'waits: self.waits, most: 0 * (self'
break_ 'a stream that would rather grow does not wait for the chunk' \
    pool/grow_in_place.rs 'self\.waited \|= fences\.wait_on\(stream\)\?;' ''
break_ 'a stream takes the last piece of another one first' \
    pool/state.rs 'free == u64::from\(room\) && free / 2 <= units' 'false'
break_ 'untouched memory loses the fences of its chunk' \
    pool/shared.rs 'arena\.insert\(addr, units, boundary, fences\)' 'arena.insert(addr, units, boundary, { drop(fences); Default::default() })'
break_ 'stitched memory loses its fences' \
    pool/stitch.rs 'fences\.join\(&own\.expect\("the arena has each part of the plan"\)\);' 'own.expect("nothing is waited for");'
break_ 'unstitched memory loses its fences' \
    pool/stitch.rs '(?<=chunks\.is_boundary\(start\), )fences\.clone\(\)' 'Fences::default()'
break_ 'a stitch is unmapped before the work that uses it is done' \
    pool/stitch.rs 'stitch\.alias_uses\.join\(&fences\);' ''
break_ 'adjacent stitches are joined' \
    pool/stitch.rs 'boundary: true' 'boundary: false'
break_ 'a chunk is freed while it is mapped a second time' \
    pool/miss.rs 'if aliased\.contains\(&addr\) \{\n                continue;\n            \}' ''
break_ 'a small block cuts a large free chunk' \
    pool/chunks.rs 'made_for / KEPT_RATIO > u64::from\(request\)' 'made_for == 0 && request == 0'
break_ 'a chunk has the size of the step, whatever the request' \
    pool/step.rs 'sizes\.max_by\(by_share\)\.map_or\(self\.least, \|\(_, all\)\| all\)' '{ drop(sizes.max_by(by_share)); self.rounded(self.least.max(self.default_step), granule) }'
break_ 'the pool does not grow by less than 2 MiB if the upstream refuses' \
    pool/step.rs 'self\.rounded\(self\.least, granule\), self\.least\]' 'self.rounded(self.least, granule)]'
break_ 'an empty pool with a maximum keeps its chunks' \
    pool/resource.rs 'self\.miss\(shared\)\.recut\([^;]*;' ''
break_ 'a stream allocates from a slot that it was bound to before' \
    pool/resource.rs 'stream_heap\.serves\(stream\.id\(\)\)(?=\n                && let Some)' 'true'
break_ 'a block freed on another stream stays in its old heap' \
    pool/resource.rs 'stream_heap\.serves\(stream\.id\(\)\)(?= && stream_heap\.has_live)' 'true'
break_ 'a full pool searches again although too little is free' \
    pool/futile.rs 'let too_little = .*;' 'let too_little = false;'
break_ 'a refused request is searched again although nothing was freed' \
    pool/futile.rs '\(no_smaller && now\.frees == self\.before\.frees\)' 'false'
break_ 'a refusal is remembered although a block was freed' \
    pool/futile.rs 'now\.frees == self\.before\.frees' 'true'
break_ 'a refusal is remembered although the pool has other chunks' \
    pool/futile.rs 'now\.reserved != self\.reserved' 'false'
break_ 'a refusal is remembered for smaller requests' \
    pool/futile.rs 'request\.units >= self\.units' 'true'
break_ 'a refusal is remembered although a chunk may be free' \
    pool/futile.rs '\.min\(self\.smallest_chunk\)' ''
break_ 'a spill pays for the account of a refusal' \
    spill.rs 'unreported\(\|\| self\.first\.allocate\(stream, layout\)\)' 'self.first.allocate(stream, layout)'
break_ 'the owner enters the lock without a barrier' \
    lock.rs 'barrier::light\(\);' ''
break_ 'a revoking thread does not wait for the owner' \
    lock.rs 'owner\.inside\.wait_while_in\(self\.id\(\)\);' ''
break_ 'a thread inside one lock as its owner enters another as its owner' \
    lock.rs 'if me\.inside\.is_free\(\) \{' 'if true {'
break_ 'two threads share one presence' \
    lock/presence.rs '\.pop\(\)' '.last().copied()'
break_ 'headroom: a shard decides alone that a limit is reached' \
    headroom/refill.rs '\n        self\.on_everything\(number, &step\)' 'Err(self.read(|_| ()))'
break_ 'headroom: a shortage is decided one shard after the other' \
    headroom/refill.rs 'let mut all = self\.lock_all\(\);(?=\n        all\.collect\(\);\n        all\.rest\.apply)' \
    'for other in self.shards.used().iter() { self.shards.lock(other).end(&mut self.rest.lock().balance); }
        { let mut rest = self.rest.lock(); rest.collected(); rest.apply(step)?; }
        if true { return Ok(self.shards.lock(number)); }
        let mut all = self.lock_all();'
break_ 'headroom: a peak rises by the whole request' \
    headroom/rest.rs 'amount\.saturating_sub\(\*room\)' '*amount'
break_ 'headroom: a peak rises in all dimensions' \
    headroom/rest.rs 'let missing = amount\.saturating_sub\(\*room\);' 'let missing = amount.saturating_sub(*room).max(1);'
break_ 'headroom: a free below a lower limit makes room at once' \
    headroom/rest.rs '\*room \+= amount - reduced;' '*room += amount;'
break_ 'headroom: a debt does not keep the shards empty' \
    headroom/rest.rs 'self\.debt == \[0; D\] && ' ''
break_ 'headroom: a lower limit leaves what shards have' \
    headroom.rs 'all\.collect\(\);\n        all\.rest\.set_ceiling' 'all.rest.set_ceiling'
break_ 'headroom: a step on the rest while shards have amounts' \
    headroom/rest.rs 'fn is_distributed\(&self\) -> bool \{\n        self\.distributed' 'fn is_distributed(&self) -> bool { false'
break_ 'headroom: what moves between shards is copied' \
    headroom/balance.rs '\.min\(\*others\);\n                \*others -= part;' '.min(*others);'
break_ 'headroom: a shard of which nothing is known is not locked' \
    headroom/refill.rs 'self\.shards\.mark_used\(thread\);' ''
break_ 'headroom: a free of more than is outstanding is counted' \
    headroom/rest.rs '_ => return Err\(self\.totals\(&self\.balance\)\)' '(Side::Out, _) => self.balance.add(Side::Out, &step.amounts), _ => return Err(self.totals(&self.balance))'
break_ 'headroom: a block that is freed makes room twice' \
    limiter/adaptor.rs 'mine\.take\(Side::Out, \[counted\]\)' 'mine.free([counted])'
break_ 'headroom: the queries of pressure are not counted from the last one' \
    headroom.rs 'all\.rest\.reset\(\);' ''
break_ 'races: a pool does not declare its blocks' \
    pool/streams.rs 'self\.hidden\.store\(on' 'self.hidden.store(false && on'
break_ 'races: the free of a declared block is not declared' \
    pool/declared.rs 'declare_kept\(&plain, stream\);' ''
break_ 're-entrance: an event of pressure under the mutex of a pool' \
    pressure/state.rs 'after_locks\(move \|\| match level > before' '(|event: &dyn Fn()| event())(&move || match level > before'
break_ 're-entrance: an event of spill under the mutex of a pool' \
    spill.rs 'after_locks\(move \|\| tracing::warn!\(bytes' '(|event: &dyn Fn()| event())(&move || tracing::warn!(bytes'
exit $undetected
