//! Tests of faults that are served together.

use super::*;
use crate::uvm::FaultPrefetch;

fn in_order(space: &mut Space, range: RangeId, order: &[u64], in_flight: usize) -> MigrationWork {
    let mut work = recorded();
    space.touch_in_order(range, order.iter().copied(), GPU, true, in_flight, &mut work).expect("there is memory");
    work
}

fn faults(work: &MigrationWork) -> Vec<u64> {
    let steps = work.steps.iter().flatten();
    steps.filter_map(|step| if let MigrationStep::Fault { page, .. } = step { Some(*page) } else { None }).collect()
}

#[test]
fn a_batch_is_sorted_and_free_of_duplicates() {
    let mut space = space(8, 1);
    let range = space.add(4 * BLOCK, ManagedMode::Concurrent);
    let work = in_order(&mut space, range, &[1030, 5, 513, 5, 1024], 64);
    assert_eq!(faults(&work), [5, 513, 1024, 1030], "by address, each once");
    assert_eq!((work.batches, work.duplicates, work.faults), (1, 1, 4));
    assert_eq!((work.further_blocks, work.new_blocks), (2, 3));
}

#[test]
fn threads_in_flight_and_the_drivers_limit_bound_a_batch() {
    for (in_flight, batches) in [(1, 512), (100, 6), (256, 2), (4096, 2)] {
        let mut space = space(8, 1);
        space.rules.prefetch = FaultPrefetch::Off;
        let range = space.add(BLOCK, ManagedMode::Concurrent);
        let order: Vec<_> = (0..512).collect();
        let work = in_order(&mut space, range, &order, in_flight);
        assert_eq!((work.batches, work.faults), (batches, 512), "{in_flight} in flight");
    }
}

#[test]
fn the_faults_of_a_batch_count_together_for_the_prefetcher() {
    let mut space = space(8, 1);
    let range = space.add(BLOCK, ManagedMode::Concurrent);
    // 17 of the 32 units of 64 KiB fault at once. That is more than 51 %, so the whole block is fetched.
    let order: Vec<_> = (0..17).map(|unit| unit * 16).collect();
    let work = in_order(&mut space, range, &order, 64);
    assert_eq!((work.batches, work.faults), (1, 17));
    assert_eq!(resident(&space, range, 0..512), [0, 512]);
}

#[test]
fn pages_migrated_by_an_earlier_batch_do_not_fault() {
    let mut space = space(8, 1);
    let range = space.add(BLOCK, ManagedMode::Concurrent);
    let order: Vec<_> = (0..512).collect();
    let work = in_order(&mut space, range, &order, 1);
    assert_eq!(faults(&work), [0, 16, 32, 64, 128, 256], "one at a time, it is the sequential touch");
}

#[test]
fn the_prefetcher_can_be_turned_off_or_held_to_64_kib() {
    for (prefetch, faults, runs) in
        [(FaultPrefetch::Off, 512, 512), (FaultPrefetch::BigPage, 32, 64), (FaultPrefetch::Density, 6, 12)]
    {
        let mut space = space(8, 1);
        space.rules.prefetch = prefetch;
        let range = space.add(BLOCK, ManagedMode::Concurrent);
        space.rules.prefetch = FaultPrefetch::Density;
        touch(&mut space, range, 0..512, HOST, true);
        space.rules.prefetch = prefetch;
        let work = touch(&mut space, range, 0..512, GPU, false);
        assert_eq!((work.faults, work.to_device.runs), (faults, runs), "{prefetch:?}");
    }
}

#[test]
fn faults_in_opposite_directions_prefetch_nothing() {
    let mut space = space(8, 1);
    let range = space.add(BLOCK, ManagedMode::Concurrent);
    touch(&mut space, range, 0..512, HOST, true);
    advise(&mut space, range, 0..512, Advice::SetReadMostly, HOST);
    touch(&mut space, range, 0..16, GPU, false);
    let one = space.add(BLOCK, ManagedMode::Concurrent);
    touch(&mut space, one, 0..512, HOST, true);
    advise(&mut space, one, 0..256, Advice::SetAccessedBy(Location::Host), GPU);
    prefetch(&mut space, one, 0..16, GPU);
    // Page 100 is mapped because of its advice. Page 300 has no advice: it faults and moves.
    let work = in_order(&mut space, one, &[100, 300], 8);
    assert_eq!((work.faults, work.remote), (1, PAGE), "accessed-by needs no fault");
}
