//! The pool's books on one stream: no two live blocks share a byte, sizes and alignments are as asked for, and every
//! figure agrees with a list of live blocks.

#![no_main]

use arbitrary::{Arbitrary, Result, Unstructured};
use cumem::layout::CUDA_ALLOCATION_ALIGNMENT;
use cumem::sim::Profile;
use cumem::{Block, Device, LayerExt, MemoryResource, Stream, layout};
use cumem_adaptors::Pool;
use cumem_conformance::BlockLedger;
use cumem_fuzz::{Leaf, Options, steps};
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;

enum Step {
    Allocate { bytes: usize, align: usize },
    Free { victim: usize },
    Synchronize,
    Trim { keep: usize },
}

fn step(bytes: &mut Unstructured<'_>) -> Result<Step> {
    Ok(match bytes.int_in_range(0..=99)? {
        0..=39 => Step::Allocate { bytes: u16::arbitrary(bytes)?.into(), align: 1 << bytes.int_in_range(0..=13)? },
        40..=54 => Step::Allocate { bytes: bytes.int_in_range(0..=MOST)?, align: 1 },
        55..=94 => Step::Free { victim: u16::arbitrary(bytes)?.into() },
        95..=97 => Step::Synchronize,
        _ => Step::Trim { keep: bytes.int_in_range(0..=MOST)? },
    })
}

/// The largest block, and what a pool may be told to keep.
const MOST: usize = 6 << 20;

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = Unstructured::new(bytes);
    let (Ok(leaf), Ok(options)) = (Leaf::arbitrary(&mut bytes), Options::arbitrary(&mut bytes)) else { return };
    let device = Device::simulated(Profile::tiny(64 << 20)).unwrap();
    let stream = Stream::new(&device).unwrap();
    let upstream = BlockLedger::new(leaf.on(&device));
    let book = upstream.book();
    let pool = Pool::new(upstream, options.of_pool()).unwrap();
    let mut live: Vec<Block> = Vec::new();
    let mut taken = BTreeMap::new();
    for step in steps(&mut bytes, step) {
        match step {
            Step::Allocate { bytes, align } => allocate(&pool, &stream, &mut live, &mut taken, bytes, align),
            Step::Free { victim } if !live.is_empty() => {
                let block = live.swap_remove(victim % live.len());
                for (start, _) in parts(&device, &block) {
                    taken.remove(&start);
                }
                // SAFETY: no work was enqueued that uses the block.
                unsafe { pool.deallocate(&stream, block) }.unwrap();
            }
            Step::Free { .. } => {}
            Step::Synchronize => stream.synchronize().unwrap(),
            Step::Trim { keep } => {
                let before = pool.stats().reserved;
                let released = pool.trim_to(keep).unwrap();
                assert_eq!(pool.stats().reserved, before - released);
            }
        }
        let stats = pool.stats();
        let sizes = || live.iter().map(Block::size).filter(|&size| size > 0);
        assert_eq!((stats.blocks, stats.requested), (sizes().count(), sizes().sum()));
        assert_eq!(stats.allocated + stats.free, stats.reserved);
        assert_eq!(stats.reserved, book.outstanding_bytes());
        assert!(stats.requested <= stats.allocated && stats.largest_free <= stats.free && stats.cached <= stats.free);
        assert_eq!(pool.snapshot().stats, stats);
    }
    for block in live {
        // SAFETY: as above.
        unsafe { pool.deallocate(&stream, block) }.unwrap();
    }
    pool.trim().unwrap();
    assert_eq!(pool.stats().reserved, 0, "everything is joined to whole chunks again");
    drop(pool);
    book.settle().unwrap();
});

/// Where the bytes of a block are, also where the pool has mapped several places as one range.
fn parts(device: &Device, block: &Block) -> Vec<(u64, u64)> {
    let simulator = device.simulator().expect("the device is simulated");
    let parts = if block.size() == 0 { Vec::new() } else { simulator.first_addresses(block.addr(), block.size()) };
    parts.into_iter().map(|part| (part.start, part.end)).collect()
}

fn allocate(
    pool: &impl MemoryResource,
    stream: &Stream,
    live: &mut Vec<Block>,
    taken: &mut BTreeMap<u64, u64>,
    bytes: usize,
    align: usize,
) {
    let layout = layout::aligned(bytes, align).unwrap();
    let block = match pool.allocate(stream, layout) {
        Ok(block) => block,
        Err(error) => return assert!(error.is_out_of_memory(), "{error}"),
    };
    assert_eq!(block.layout(), layout);
    assert_eq!(block.addr() % align.max(CUDA_ALLOCATION_ALIGNMENT) as u64, 0);
    for (start, end) in parts(pool.device(), &block) {
        if let Some((&other, &until)) = taken.range(..end).next_back() {
            assert!(until <= start, "{start:#x}..{end:#x} overlaps {other:#x}..{until:#x}, which is live");
        }
        taken.insert(start, end);
    }
    live.push(block);
}
