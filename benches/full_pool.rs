//! A full pool under `spill`: a pair that the pool refuses and the second resource serves, by the number of live blocks
//! in the pool; and meanwhile a pair of another stream that hits. Medians of many calls.

mod common;

use cumem::{Device, LayerExt, Stream};
use cumem_adaptors::{SpillState, StackSpec};
use std::time::Instant;

/// The size of the blocks that fill the pool, in bytes.
const BLOCK: usize = 4096;
/// The size of a spilled block, in bytes: no free piece has it.
const SPILLED: usize = 2 * BLOCK;

/// Returns the median nanoseconds of one call.
fn median(calls: usize, mut call: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..calls)
        .map(|_| {
            let start = Instant::now();
            call();
            start.elapsed().as_nanos() as f64
        })
        .collect();
    times.sort_unstable_by(f64::total_cmp);
    times[times.len() / 2]
}

fn measure(device: &Device, live: usize, calls: usize) {
    let maximum = (live * BLOCK).next_multiple_of(2 << 20);
    let text = format!("device | pool(maximum={maximum}) | spill(managed | pool)");
    let spec = StackSpec::parse(&text).unwrap_or_else(|error| common::give_up(error));
    let stack = common::build(&spec, device);
    let stream = || Stream::new(device).unwrap_or_else(|error| common::give_up(error));
    let (spills, other) = (stream(), stream());
    let pair = |stream: &Stream, bytes| {
        let block = common::allocate(&stack, stream, common::layout(bytes));
        common::free(&stack, stream, block);
    };
    // The other stream keeps a free block of its own.
    let own = common::allocate(&stack, &other, common::layout(BLOCK));
    let spilled = stack.find::<SpillState>().unwrap_or_else(|| common::give_up("the stack has no spill"));
    let mut held = Vec::new();
    while spilled.blocks() == 0 {
        held.push(common::allocate(&stack, &spills, common::layout(BLOCK)));
    }
    common::free(&stack, &other, own);
    pair(&other, BLOCK);
    let refused = median(calls, || pair(&spills, SPILLED));
    let hit = median(calls, || pair(&other, BLOCK));
    let between = {
        let mut times = Vec::with_capacity(calls);
        for _ in 0..calls {
            pair(&spills, SPILLED);
            times.push(median(1, || pair(&other, BLOCK)));
        }
        times.sort_unstable_by(f64::total_cmp);
        times[times.len() / 2]
    };
    println!(
        "full_pool/{}/{live:>9} live blocks: spilled pair {refused:>10.0} ns, another stream's hit {hit:>6.0} ns alone, \
         {between:>8.0} ns after a refusal",
        device.id(),
    );
    held.into_iter().for_each(|block| common::free(&stack, &spills, block));
}

fn main() {
    let testing = std::env::args().any(|arg| arg == "--test");
    let device = common::device();
    let (calls, counts): (usize, &[usize]) =
        if testing { (3, &[1_500]) } else { (301, &[1_500, 11_000, 101_000, 1_000_000]) };
    counts.iter().for_each(|&live| measure(&device, live, calls));
}
