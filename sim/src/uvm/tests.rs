//! Tests of the rules, on page numbers alone. A test called `experiment_N` is the exact form of experiment N of the 22
//! validation experiments that `cargo run --release --example uvm_experiments` prints.

mod batches;
mod discard;
mod policy;
mod tails;
mod thrashing;

use super::{
    BLOCK, GpuConfig, ManagedMode, MigrationStep, MigrationWork, NoMemory, PAGE, Processor, RangeId, Rules, Space,
};
use cumem_driver::{Advice, DeviceId, Location};

const GPU: Processor = Processor::from_index(1);
const OTHER: Processor = Processor::from_index(2);
const HOST: Processor = Processor::HOST;

fn space(chunks: u64, gpus: usize) -> Space {
    let config = GpuConfig { capacity: chunks * BLOCK, mapped_by_host: false, peers: true, second_pass: true };
    Space::new(vec![config; gpus], Rules::default())
}

fn recorded() -> MigrationWork {
    MigrationWork { steps: Some(Vec::new()), ..MigrationWork::default() }
}

fn touch(space: &mut Space, range: RangeId, pages: std::ops::Range<u64>, by: Processor, write: bool) -> MigrationWork {
    let mut work = recorded();
    space.touch(range, pages, by, write, &mut work).expect("there is memory");
    work
}

fn prefetch(space: &mut Space, range: RangeId, pages: std::ops::Range<u64>, to: Processor) -> MigrationWork {
    let mut work = recorded();
    space.prefetch(range, pages, to, &mut work).expect("there is memory");
    work
}

fn advise(space: &mut Space, range: RangeId, pages: std::ops::Range<u64>, advice: Advice, at: Processor) {
    space.advise(range, pages, advice, at, &mut MigrationWork::default());
}

fn resident(space: &Space, range: RangeId, pages: std::ops::Range<u64>) -> Vec<u64> {
    space.resident_bytes(range, pages).0.into_iter().map(|bytes| bytes / PAGE).collect()
}

/// A run on hardware (GTX 1080 Ti, nvprof): the order of accesses in units of 64 KiB, and the numbers of transfers.
struct Recorded {
    order: &'static [u64],
    to_device: u64,
    to_host: u64,
}

const RECORDED: [Recorded; 3] = [
    Recorded { order: &[0, 1, 2, 4, 8, 16], to_device: 12, to_host: 13 },
    Recorded { order: &[1, 3, 0, 4, 8, 16], to_device: 13, to_host: 12 },
    Recorded { order: &[1, 3, 5, 7, 0, 8, 16], to_device: 17, to_host: 16 },
];

#[test]
fn experiment_1_faults_and_transfers_are_those_of_the_recorded_runs() {
    for Recorded { order, to_device, to_host } in RECORDED {
        let mut space = space(64, 1);
        let range = space.add(BLOCK, ManagedMode::Concurrent);
        let fill = touch(&mut space, range, 0..512, HOST, true);
        assert_eq!((fill.faults, fill.populated), (6, BLOCK), "a sequential first touch of 2 MiB is six faults");
        let (mut up, mut down) = (MigrationWork::default(), MigrationWork::default());
        for unit in order {
            space.touch(range, unit * 16..unit * 16 + 1, GPU, true, &mut up).expect("there is memory");
        }
        for unit in order.iter().rev() {
            space.touch(range, unit * 16..unit * 16 + 1, HOST, false, &mut down).expect("there is memory");
        }
        let faults = order.len() as u64;
        assert_eq!((up.faults, up.to_device.runs), (faults, to_device), "{order:?}, to the device");
        assert_eq!((down.faults, down.to_host.runs), (faults, to_host), "{order:?}, back");
    }
}

#[test]
fn experiment_3_a_sequential_touch_doubles_what_it_moves() {
    let mut space = space(64, 1);
    let range = space.add(BLOCK, ManagedMode::Concurrent);
    touch(&mut space, range, 0..512, HOST, true);
    let work = touch(&mut space, range, 0..512, GPU, false);
    let steps = work.steps.expect("they were wanted");
    let faults = steps.iter().filter_map(|s| match s {
        MigrationStep::Fault { page, .. } => Some(page / 16),
        MigrationStep::Transfer { .. } | MigrationStep::Eviction { .. } => None,
    });
    assert_eq!(faults.collect::<Vec<_>>(), [0, 1, 2, 4, 8, 16]);
    assert_eq!(work.to_device.bytes, BLOCK);
}

#[test]
fn experiment_3_one_page_takes_a_whole_chunk() {
    let mut space = space(4, 1);
    let range = space.add(4 * BLOCK, ManagedMode::Concurrent);
    let work = touch(&mut space, range, 700..701, GPU, true);
    assert_eq!(work.populated, 64 << 10);
    assert_eq!(space.free_bytes(0), 3 * BLOCK);
    let tail = space.add(192 << 10, ManagedMode::Concurrent);
    touch(&mut space, tail, 3..4, GPU, true);
    assert_eq!(space.free_bytes(0), 3 * BLOCK - (64 << 10), "a short block takes 64 KiB chunks");
    space.remove(range);
    space.remove(tail);
    assert_eq!(space.free_bytes(0), 4 * BLOCK);
}

#[test]
fn experiment_5_eviction_goes_by_fault_order_and_a_hit_does_not_refresh() {
    let mut space = space(3, 1);
    let range = space.add(5 * BLOCK, ManagedMode::Concurrent);
    for block in 0..3 {
        prefetch(&mut space, range, block * 512..block * 512 + 512, GPU);
    }
    touch(&mut space, range, 0..512, GPU, false);
    let work = prefetch(&mut space, range, 3 * 512..4 * 512, GPU);
    assert_eq!((work.evictions, work.evicted), (1, BLOCK));
    assert_eq!(resident(&space, range, 0..512), [512, 0], "the first is out though it was just read");
    prefetch(&mut space, range, 512..1024, GPU);
    prefetch(&mut space, range, 4 * 512..5 * 512, GPU);
    assert_eq!(resident(&space, range, 512..1024), [0, 512], "a prefetch of what is there does refresh");
    assert_eq!(resident(&space, range, 1024..1536), [512, 0]);
}

#[test]
fn experiment_5_emptied_chunks_are_taken_first_and_without_a_copy() {
    let mut space = space(2, 1);
    let range = space.add(3 * BLOCK, ManagedMode::Concurrent);
    prefetch(&mut space, range, 0..1024, GPU);
    prefetch(&mut space, range, 512..1024, HOST);
    assert_eq!(space.free_bytes(0), 0, "the chunk stays with unified memory");
    let work = prefetch(&mut space, range, 1024..1536, GPU);
    assert_eq!((work.evictions, work.evicted), (1, 0));
    assert_eq!(resident(&space, range, 0..512), [0, 512]);
}

#[test]
fn experiment_7_plain_memory_evicts_and_is_never_evicted() {
    let mut space = space(4, 1);
    let range = space.add(8 * BLOCK, ManagedMode::Concurrent);
    prefetch(&mut space, range, 0..4 * 512, GPU);
    let mut work = MigrationWork::default();
    assert_eq!(space.take_plain(0, 5 * BLOCK, &mut work), Err(NoMemory));
    assert_eq!(work.evictions, 0, "a request without hope evicts nothing");
    assert_eq!(space.take_plain(0, 4 * BLOCK, &mut work), Ok(()));
    assert_eq!(work.evictions, 4);
    assert_eq!(space.touch(range, 0..1, GPU, true, &mut work), Err(NoMemory));
    space.give_plain(0, BLOCK);
    assert_eq!(space.touch(range, 0..1, GPU, true, &mut work), Ok(()));
}

#[test]
fn more_than_fits_is_prefetched_twice() {
    let mut space = space(4, 1);
    let range = space.add(6 * BLOCK, ManagedMode::Concurrent);
    touch(&mut space, range, 0..6 * 512, HOST, true);
    let work = prefetch(&mut space, range, 0..6 * 512, GPU);
    assert_eq!(work.to_device.bytes, 12 * BLOCK, "about 2N blocks in");
    assert_eq!(work.evictions, 8, "2N - C out");
    assert_eq!(resident(&space, range, 2 * 512..6 * 512), [0, 4 * 512], "the last C stay");
}

#[test]
fn experiment_17_a_cyclic_scan_misses_always_when_one_block_too_large() {
    for (blocks, faults) in [(4, 0), (5, 5 * 6)] {
        let mut space = space(4, 1);
        let range = space.add(blocks * BLOCK, ManagedMode::Concurrent);
        touch(&mut space, range, 0..blocks * 512, GPU, true);
        assert_eq!(touch(&mut space, range, 0..blocks * 512, GPU, true).faults, faults, "{blocks} blocks");
    }
}

#[test]
fn experiment_22_read_mostly_copies_last_until_a_write() {
    let mut space = space(8, 2);
    let range = space.add(BLOCK, ManagedMode::Concurrent);
    touch(&mut space, range, 0..512, HOST, true);
    advise(&mut space, range, 0..512, Advice::SetReadMostly, HOST);
    for reader in [GPU, OTHER] {
        assert_eq!(touch(&mut space, range, 0..512, reader, false).to_device.bytes, BLOCK, "one copy each");
        assert_eq!(touch(&mut space, range, 0..512, reader, false).faults, 0);
    }
    assert_eq!(resident(&space, range, 0..512), [512, 512, 512]);
    let work = touch(&mut space, range, 0..16, GPU, true);
    assert_eq!((work.to_device.bytes, work.collapsed), (0, 2 * 16 * PAGE), "no copy, two copies fewer");
    assert_eq!(resident(&space, range, 0..16), [0, 16, 0]);
    assert_eq!(touch(&mut space, range, 0..16, HOST, false).to_host.bytes, 16 * PAGE);
    advise(&mut space, range, 0..512, Advice::UnsetReadMostly, HOST);
    assert_eq!(resident(&space, range, 0..512), [512, 0, 0]);
}

#[test]
fn experiment_22_evicting_a_page_that_the_host_has_moves_nothing() {
    let mut space = space(1, 1);
    let range = space.add(2 * BLOCK, ManagedMode::Concurrent);
    touch(&mut space, range, 0..1024, HOST, true);
    advise(&mut space, range, 0..1024, Advice::SetReadMostly, HOST);
    touch(&mut space, range, 0..512, GPU, false);
    let work = touch(&mut space, range, 512..1024, GPU, false);
    assert_eq!((work.evictions, work.evicted, work.to_host.bytes), (1, 0, 0));
}

#[test]
fn experiment_4_a_preferred_location_keeps_pages_where_they_can_be_reached() {
    let mut space = space(8, 1);
    let range = space.add(BLOCK, ManagedMode::Concurrent);
    touch(&mut space, range, 0..512, HOST, true);
    advise(&mut space, range, 0..512, Advice::SetPreferredLocation(Location::Host), HOST);
    let work = touch(&mut space, range, 0..4, GPU, true);
    assert_eq!((work.faults, work.to_device.bytes, work.remote), (4, 0, 4 * PAGE), "mapped, not moved");
    assert_eq!(touch(&mut space, range, 0..4, GPU, true).faults, 0);

    let device = Location::Device(DeviceId::cuda(0));
    let fresh = space.add(BLOCK, ManagedMode::Concurrent);
    advise(&mut space, fresh, 0..512, Advice::SetPreferredLocation(device), GPU);
    assert_eq!(touch(&mut space, fresh, 5..6, GPU, true).populated, BLOCK, "a first touch at home brings the block");
    assert_eq!(touch(&mut space, fresh, 0..1, HOST, true).to_host.bytes, PAGE, "and nothing more leaves than must");
    assert_eq!(touch(&mut space, fresh, 0..1, GPU, true).to_device.bytes, PAGE, "the next use brings it home");
}

#[test]
fn experiment_4_accessed_by_maps_without_faults() {
    let mut space = space(8, 1);
    let range = space.add(BLOCK, ManagedMode::Concurrent);
    touch(&mut space, range, 0..512, HOST, true);
    advise(&mut space, range, 0..256, Advice::SetAccessedBy(Location::Host), GPU);
    let work = touch(&mut space, range, 0..256, GPU, false);
    assert_eq!((work.faults, work.remote), (0, 256 * PAGE));
    assert!(touch(&mut space, range, 256..512, GPU, false).faults > 0);
}

#[test]
fn devices_without_peer_access_copy_through_the_host() {
    let config = GpuConfig { capacity: 8 * BLOCK, mapped_by_host: false, peers: false, second_pass: true };
    let mut space = Space::new([config; 2], Rules::default());
    let range = space.add(BLOCK, ManagedMode::Concurrent);
    prefetch(&mut space, range, 0..512, GPU);
    touch(&mut space, range, 0..512, GPU, true);
    let work = prefetch(&mut space, range, 0..512, OTHER);
    assert_eq!((work.to_host.bytes, work.to_device.bytes, work.peer.bytes), (BLOCK, BLOCK, 0));
}

#[test]
fn experiment_4_advice_on_a_part_splits_and_attributes_are_what_all_pages_share() {
    let mut space = space(8, 1);
    let range = space.add(BLOCK, ManagedMode::Concurrent);
    advise(&mut space, range, 100..200, Advice::SetReadMostly, HOST);
    advise(&mut space, range, 0..512, Advice::SetAccessedBy(Location::Host), HOST);
    space.record_prefetch_target(range, 0..256, Location::Host);
    let part = space.common_advice(range, 100..200);
    assert!(part.read_mostly && part.accessed_by(HOST) && !part.accessed_by(GPU));
    assert_eq!(part.last_prefetch, Some(Location::Host));
    let whole = space.common_advice(range, 0..512);
    assert!(!whole.read_mostly && whole.accessed_by(HOST));
    assert_eq!(whole.last_prefetch, None, "half of it was never prefetched");
}
