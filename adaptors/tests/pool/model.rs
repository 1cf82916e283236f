//! Programs of operations against a naive model.

use crate::common::{free, sim_with};
use crate::source::{Ledger, Source, islands, joined, unified};
use cumem::sim::Profile;
use cumem::{
    AllocError, AnyUpstream, Block, CudaVirtualResource, Device, LayerExt, MemoryKind, MemoryResource, Stream, layout,
};
use cumem_adaptors::pool::{Crossing, Pool, PoolOptions, RegionState};
use proptest::prelude::*;
use std::ops::Range;

const MIB: usize = 1 << 20;

#[derive(Debug, Clone)]
enum Op {
    Allocate { bytes: usize, align: u32, stream: usize },
    Deallocate { victim: usize, stream: Option<usize> },
    Synchronize(usize),
    Trim,
    Refuse(usize),
    Replace(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let bytes = prop_oneof![0..2000_usize, 0..300_000_usize, 0..6 * MIB];
    let align = prop_oneof![4 => Just(8_u32), 1 => 0..16_u32];
    let stream = prop_oneof![3 => Just(None), 1 => (0..4_usize).prop_map(Some)];
    prop_oneof![
        12 => (bytes, align, 0..4_usize).prop_map(|(bytes, align, stream)| Op::Allocate { bytes, align, stream }),
        11 => (any::<usize>(), stream).prop_map(|(victim, stream)| Op::Deallocate { victim, stream }),
        1 => (0..4_usize).prop_map(Op::Synchronize),
        1 => Just(Op::Trim),
        1 => (0..3_usize).prop_map(Op::Refuse),
        1 => (0..4_usize).prop_map(Op::Replace),
    ]
}

struct Live {
    block: Block,
    stream: usize,
}

/// Returns the original addresses of a block's bytes, also if the pool stitched them together.
fn parts(device: &Device, block: &Block) -> Vec<Range<u64>> {
    let simulator = device.simulator().unwrap();
    if block.size() == 0 { Vec::new() } else { simulator.first_addresses(block.addr(), block.size()) }
}

/// Reports whether a part lies in one chunk or, over `joined`, in several adjacent ones.
fn within_chunks(ledger: &Ledger, part: &Range<u64>, joined: bool) -> bool {
    let Some((&first, &size)) = ledger.out.range(..=part.start).next_back() else { return false };
    let mut end = first + size as u64;
    while joined && let Some(size) = ledger.out.get(&end) {
        end += *size as u64;
    }
    part.end <= end
}

type Leaf<K> = fn(&Device) -> AnyUpstream<K>;

fn run<K: MemoryKind>(ops: Vec<Op>, options: PoolOptions, leaf: Leaf<K>) -> Result<(), TestCaseError> {
    run_cut(ops, options, leaf, |bytes| bytes.next_multiple_of(256))
}

/// Returns the smallest block size with four divisions that is at least `bytes`.
fn quarters(bytes: usize) -> usize {
    let sizes = (2..).flat_map(|n| [4, 5, 6, 7].map(|quarters| quarters << (n - 2)));
    [1, 2, 3].into_iter().chain(sizes).map(|units| 256 * units).find(|&size| size >= bytes).unwrap()
}

fn run_cut<K: MemoryKind>(
    ops: Vec<Op>,
    options: PoolOptions,
    leaf: Leaf<K>,
    cut: fn(usize) -> usize,
) -> Result<(), TestCaseError> {
    let (device, _) = sim_with(Profile::tiny(256 * MIB as u64));
    let source = Source::new(leaf(&device));
    let can_join = source.find::<CudaVirtualResource>().is_some();
    let mut streams: Vec<_> = (0..4).map(|_| Stream::new(&device).unwrap()).collect();
    let pool = Pool::new(&source, options).unwrap();
    let mut live: Vec<Live> = Vec::new();
    let mut peak_touched = 0;
    for op in ops {
        match op {
            Op::Allocate { bytes, align, stream } => {
                let layout = layout::aligned(bytes, 1 << align).unwrap();
                match pool.allocate(&streams[stream], layout) {
                    Ok(block) => {
                        prop_assert_eq!(block.addr() % (1_u64 << align.max(8)), 0);
                        prop_assert_eq!(block.layout(), layout);
                        for part in parts(&device, &block) {
                            for other in live.iter().flat_map(|l| parts(&device, &l.block)) {
                                prop_assert!(part.end <= other.start || other.end <= part.start);
                            }
                            let ledger = source.ledger.lock().unwrap();
                            prop_assert!(within_chunks(&ledger, &part, can_join), "within chunks");
                        }
                        live.push(Live { block, stream });
                    }
                    Err(error) => prop_assert!(matches!(error, AllocError::Exhausted { .. }), "{}", error),
                }
            }
            Op::Deallocate { victim, stream } if !live.is_empty() => {
                let Live { block, stream: own } = live.swap_remove(victim % live.len());
                free(&pool, &streams[stream.unwrap_or(own)], block).unwrap();
            }
            Op::Deallocate { .. } => {}
            Op::Synchronize(stream) => streams[stream].synchronize().unwrap(),
            Op::Trim => {
                let before = pool.stats().reserved;
                let released = pool.trim().unwrap();
                prop_assert_eq!(pool.stats().reserved, before - released);
            }
            Op::Refuse(after) => {
                let refusal = AllocError::LimitExceeded { layer: "model".into(), requested: 0, allocated: 0, limit: 0 };
                source.ledger.lock().unwrap().fail_after = Some((after, refusal));
            }
            Op::Replace(stream) => streams[stream] = Stream::new(&device).unwrap(),
        }
        let stats = pool.stats();
        let blocks = || live.iter().map(|l| l.block.size()).filter(|&size| size > 0);
        prop_assert_eq!(stats.blocks, blocks().count());
        prop_assert_eq!(stats.requested, blocks().sum::<usize>());
        prop_assert_eq!(stats.allocated, blocks().map(cut).sum::<usize>());
        prop_assert_eq!(stats.allocated + stats.free, stats.reserved);
        prop_assert_eq!(stats.reserved, source.ledger.lock().unwrap().bytes());
        prop_assert!(stats.cached <= stats.free && stats.largest_free <= stats.free);
        let snapshot = pool.snapshot();
        prop_assert_eq!(snapshot.stats, stats);
        let regions = &snapshot.regions;
        prop_assert!(regions.windows(2).all(|two| two[0].addr + two[0].bytes as u64 <= two[1].addr));
        let bytes_in = |states: &[RegionState]| -> usize {
            regions.iter().filter(|region| states.contains(&region.state)).map(|region| region.bytes).sum()
        };
        prop_assert_eq!(bytes_in(&[RegionState::Live]), stats.allocated);
        prop_assert_eq!(bytes_in(&[RegionState::Cached]), stats.cached);
        let in_arena = [RegionState::Free, RegionState::Pending, RegionState::Untouched];
        prop_assert_eq!(bytes_in(&in_arena), stats.free - stats.cached);
        prop_assert_eq!(bytes_in(&[RegionState::Untouched]), stats.reserved - stats.touched);
        peak_touched = peak_touched.max(stats.touched);
        prop_assert!(peak_touched <= stats.peak_touched && stats.allocated <= stats.touched);
        let own = &snapshot.streams;
        prop_assert_eq!(own.iter().map(|own| own.requested).sum::<usize>(), stats.requested);
        prop_assert_eq!(own.iter().map(|own| own.allocated).sum::<usize>(), stats.allocated);
        prop_assert_eq!(own.iter().map(|own| own.cached).sum::<usize>(), stats.cached);
        prop_assert_eq!(snapshot.classes().iter().map(|class| class.blocks).sum::<usize>(), stats.blocks);
    }
    for Live { block, stream } in live {
        free(&pool, &streams[stream], block).unwrap();
    }
    pool.trim().unwrap();
    prop_assert_eq!(pool.stats().reserved, 0, "everything is joined to whole chunks again");
    drop(pool);
    prop_assert!(source.ledger.lock().unwrap().out.is_empty());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn programs_without_limits(ops in prop::collection::vec(op(), 1..300)) {
        run(ops, PoolOptions::new(), islands)?;
    }

    #[test]
    fn programs_where_memory_is_short(ops in prop::collection::vec(op(), 1..300)) {
        run(ops, PoolOptions::new().maximum(20 * MIB).step(MIB), islands)?;
    }

    #[test]
    fn programs_with_four_sizes_to_a_power_of_two(ops in prop::collection::vec(op(), 1..300)) {
        run_cut(ops, PoolOptions::new().divisions(4), islands, quarters)?;
    }

    #[test]
    fn programs_with_pools_that_grow_first(ops in prop::collection::vec(op(), 1..300)) {
        run(ops, grow_first(), islands)?;
    }

    #[test]
    fn programs_with_unified_memory(ops in prop::collection::vec(op(), 1..300)) {
        run(ops, PoolOptions::new(), unified)?;
    }

    #[test]
    fn programs_with_unified_memory_where_memory_is_short(ops in prop::collection::vec(op(), 1..300)) {
        run(ops, PoolOptions::new().maximum(20 * MIB).step(7 * MIB), unified)?;
    }

    #[test]
    fn programs_with_unified_memory_and_pools_that_grow_first(ops in prop::collection::vec(op(), 1..300)) {
        run(ops, grow_first(), unified)?;
    }

    #[test]
    fn programs_with_joined_chunks(ops in prop::collection::vec(op(), 1..300)) {
        run(ops, PoolOptions::new(), joined)?;
    }

    #[test]
    fn programs_with_joined_chunks_where_memory_is_short(ops in prop::collection::vec(op(), 1..300)) {
        run(ops, PoolOptions::new().maximum(20 * MIB).step(MIB), joined)?;
    }

    #[test]
    fn programs_with_joined_chunks_and_pools_that_grow_first(ops in prop::collection::vec(op(), 1..300)) {
        run(ops, grow_first(), joined)?;
    }
}

fn grow_first() -> PoolOptions {
    PoolOptions::new().maximum(20 * MIB).crossing(Crossing::GrowFirst).release_threshold(8 * MIB)
}
