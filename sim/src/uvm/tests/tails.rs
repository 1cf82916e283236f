//! Experiment 2, and the part of experiment 5 about blocks shorter than 2 MiB.

use super::*;

#[test]
fn experiment_2_a_prefetch_never_crosses_a_block() {
    let mut space = space(8, 1);
    let range = space.add(2 * BLOCK + (256 << 10), ManagedMode::Concurrent);
    touch(&mut space, range, 0..1088, HOST, true);
    // Access all but the last page of a block. The prefetcher fetches the last page, but nothing of the next block.
    touch(&mut space, range, 0..511, GPU, false);
    assert_eq!(resident(&space, range, 0..1088), [1088 - 512, 512]);
    // The tail of 256 KiB takes three faults. The last fault fetches the last two units of 64 KiB.
    let tail = touch(&mut space, range, 1024..1088, GPU, false);
    let faults = tail.steps.expect("they were wanted").into_iter().filter_map(|step| match step {
        MigrationStep::Fault { page, .. } => Some(page),
        MigrationStep::Transfer { .. } | MigrationStep::Eviction { .. } => None,
    });
    assert_eq!(faults.collect::<Vec<_>>(), [1024, 1040, 1056]);
}

#[test]
fn experiment_5_a_tail_keeps_the_place_of_its_allocation() {
    let mut space = space(2, 1);
    let tail = space.add(1 << 20, ManagedMode::Concurrent);
    let whole = space.add(2 * BLOCK, ManagedMode::Concurrent);
    touch(&mut space, tail, 0..256, GPU, true);
    prefetch(&mut space, whole, 0..1, GPU);
    prefetch(&mut space, tail, 0..256, GPU);
    touch(&mut space, whole, 512..513, GPU, true);
    assert_eq!(resident(&space, tail, 0..256), [256, 0], "a prefetch does not save it");
    assert_eq!(resident(&space, whole, 0..16)[1], 1);
}
