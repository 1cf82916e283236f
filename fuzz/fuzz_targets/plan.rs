//! Prefetch plans against a model of one target for each byte: what is refused, what is skipped, how entries are merged,
//! and that nothing but the plan's ranges moves.

#![no_main]

use arbitrary::{Arbitrary, Result, Unstructured};
use cumem::sim::{Profile, Simulator};
use cumem::unified::{HintOutcome, SkipReason};
use cumem::unified::{PlanError, PrefetchPlan};
use cumem::{AllocError, Block, Device, DeviceError, Location, ManagedResource, MemoryResource, Stream, layout};
use cumem_fuzz::steps;
use libfuzzer_sys::fuzz_target;
use std::ops::Range;

/// Bytes of each block.
const BYTES: usize = 1000;
const BLOCKS: usize = 3;

/// A range of a block, which may end past it or before its start, and its target by its index.
struct Entry {
    block: usize,
    range: Range<usize>,
    to: usize,
}

fn entry(bytes: &mut Unstructured<'_>) -> Result<Entry> {
    let (block, to) = (bytes.int_in_range(0..=BLOCKS - 1)?, bytes.int_in_range(0..=2)?);
    let start = bytes.int_in_range(0..=BYTES + 1)?;
    let length = bytes.int_in_range(-2..=200)?;
    Ok(Entry { block, range: start..start.saturating_add_signed(length), to })
}

/// The target of each byte of one block.
type Targets = [Option<Location>; BYTES];

/// An entry of the model.
enum Known {
    Empty,
    Planned(usize, Range<usize>, Location),
}

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = Unstructured::new(bytes);
    let Ok(budget) = Option::<u16>::arbitrary(&mut bytes) else { return };
    let simulator = Simulator::new([Profile::tiny(64 << 20), Profile::tiny(64 << 20)]).unwrap();
    let device_of = |ordinal| Device::of_simulator(&simulator, ordinal).unwrap();
    let (device, second) = (device_of(0), device_of(1));
    let stream = Stream::new(&device).unwrap();
    let managed = ManagedResource::new(&device).unwrap();
    let allocate = || managed.allocate(&stream, layout::bytes(BYTES).unwrap());
    let blocks: Vec<Block> = (0..BLOCKS).map(|_| allocate()).collect::<Result<_, AllocError>>().unwrap();
    let locations = [Location::Host, device.id().into(), second.id().into()];

    let mut plan = PrefetchPlan::new(&stream);
    if let Some(budget) = budget {
        plan = plan.budget(budget.into());
    }
    let mut model = [[None; BYTES]; BLOCKS];
    let mut known = Vec::new();
    for Entry { block, range, to } in steps(&mut bytes, entry) {
        let to = locations[to];
        let added = plan.add(&blocks[block], range.clone(), to).map(|_| ());
        let Some(bytes) = model[block].get(range.clone()) else {
            let refused = matches!(added, Err(PlanError::Entry { source: DeviceError::OutOfRange { .. }, .. }));
            assert!(refused, "{range:?}: {added:?}");
            continue;
        };
        if bytes.iter().flatten().any(|&target| target != to) {
            assert!(matches!(added, Err(PlanError::Conflict { .. })), "{range:?}: {added:?}");
            continue;
        }
        assert_eq!(added, Ok(()), "{range:?}");
        if range.is_empty() {
            known.push(Known::Empty);
        } else {
            model[block][range.clone()].fill(Some(to));
            known.push(Known::Planned(block, range, to));
        }
    }
    assert_eq!(plan.len(), known.len());

    // The budget is given to whole entries, in their order; bytes that an earlier entry has are free.
    let mut left = budget.map_or(usize::MAX, usize::from);
    let mut accepted: [Targets; BLOCKS] = [[None; BYTES]; BLOCKS];
    let mut outcomes = Vec::new();
    for entry in &known {
        let Known::Planned(block, range, to) = entry else {
            outcomes.push(HintOutcome::Skipped(SkipReason::EmptyRange));
            continue;
        };
        let bytes = accepted[*block][range.clone()].iter().filter(|target| target.is_none()).count();
        if bytes > left {
            outcomes.push(HintOutcome::Skipped(SkipReason::OverBudget { bytes, left }));
        } else {
            left -= bytes;
            accepted[*block][range.clone()].fill(Some(*to));
            outcomes.push(HintOutcome::Applied);
        }
    }
    let mut expected: Vec<_> = blocks.iter().zip(&accepted).flat_map(|(block, targets)| runs(block, targets)).collect();
    expected.sort_unstable_by_key(|&(addr, ..)| addr);

    for _ in 0..2 {
        let report = plan.execute().unwrap();
        assert_eq!(report.outcomes, outcomes);
        let ranges: Vec<_> = report.ranges.iter().map(|range| (range.addr, range.bytes, range.to)).collect();
        assert_eq!(ranges, expected);
        assert_eq!(report.bytes(), expected.iter().map(|(_, bytes, _)| bytes).sum());
    }
    stream.synchronize().unwrap();
    drop(plan);
    for block in blocks {
        // SAFETY: all work of the stream has ended.
        unsafe { managed.deallocate(&stream, block) }.unwrap();
    }
});

/// The longest runs of bytes with one target, as address, bytes and target.
fn runs(block: &Block, targets: &Targets) -> Vec<(u64, usize, Location)> {
    let runs = targets.chunk_by(|a, b| a == b).scan(block.addr(), |addr, run| {
        let start = *addr;
        *addr += run.len() as u64;
        Some(run[0].map(|to| (start, run.len(), to)))
    });
    runs.flatten().collect()
}
