//! Tests of discarded contents.

use super::*;

fn discard(space: &mut Space, range: RangeId, pages: std::ops::Range<u64>) -> MigrationWork {
    let mut work = recorded();
    space.discard(range, pages, &mut work);
    work
}

#[test]
fn experiment_5_discarded_blocks_go_after_unused_and_before_used_ones_without_a_copy() {
    let mut space = space(3, 1);
    let range = space.add(6 * BLOCK, ManagedMode::Concurrent);
    prefetch(&mut space, range, 0..3 * 512, GPU);
    discard(&mut space, range, 512..1024);
    prefetch(&mut space, range, 2 * 512..3 * 512, HOST);
    let blocks = |space: &Space| [0, 1, 2].map(|block| resident(space, range, block * 512..block * 512 + 512)[1]);
    assert_eq!(blocks(&space), [512, 512, 0]);
    let unused = prefetch(&mut space, range, 3 * 512..4 * 512, GPU);
    assert_eq!((unused.evictions, unused.evicted, blocks(&space)), (1, 0, [512, 512, 0]));
    let discarded = prefetch(&mut space, range, 4 * 512..5 * 512, GPU);
    assert_eq!((discarded.evictions, discarded.evicted, blocks(&space)), (1, 0, [512, 0, 0]));
    assert_eq!(resident(&space, range, 512..1024), [0, 0], "nobody has them any more");
    let used = prefetch(&mut space, range, 5 * 512..6 * 512, GPU);
    assert_eq!((used.evictions, used.evicted, blocks(&space)), (1, BLOCK, [0, 0, 0]));
}

#[test]
fn the_next_access_ends_it() {
    let mut space = space(1, 1);
    let range = space.add(2 * BLOCK, ManagedMode::Concurrent);
    prefetch(&mut space, range, 0..512, GPU);
    discard(&mut space, range, 0..512);
    let work = touch(&mut space, range, 0..1, GPU, true);
    assert_eq!((work.faults, work.to_device.bytes, work.populated), (1, 0, 0), "mapped again, not moved");
    assert_eq!(touch(&mut space, range, 0..1, GPU, true).faults, 0);
    let evicted = prefetch(&mut space, range, 512..1024, GPU);
    assert_eq!((evicted.evictions, evicted.evicted), (1, PAGE), "what came back into use is copied");
    prefetch(&mut space, range, 0..512, GPU);
    discard(&mut space, range, 0..512);
    assert_eq!(touch(&mut space, range, 0..1, HOST, true).to_host.bytes, 0, "a move copies nothing either");
}

#[test]
fn copies_end() {
    let mut space = space(2, 1);
    let range = space.add(BLOCK, ManagedMode::Concurrent);
    touch(&mut space, range, 0..512, HOST, true);
    advise(&mut space, range, 0..512, Advice::SetReadMostly, HOST);
    touch(&mut space, range, 0..512, GPU, false);
    assert_eq!(discard(&mut space, range, 0..512).collapsed, BLOCK);
    assert_eq!(resident(&space, range, 0..512), [0, 512]);
}
