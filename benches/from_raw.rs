//! A pair of 64 KiB through `Stream::from_raw` at each call, as a client behind a C interface does, beside a pair on a
//! handle that is kept. Medians of many rounds.

mod common;

use cumem::{Device, MemoryResource, Stream};
use cumem_adaptors::StackSpec;
use std::borrow::Borrow;
use std::time::Instant;

const PAIRS: u32 = 10_000;

/// Returns the median nanoseconds of a pair on the streams that `next` returns.
fn pair<S: Borrow<Stream>>(stack: &impl MemoryResource, rounds: usize, mut next: impl FnMut() -> S) -> f64 {
    let layout = common::layout(64 << 10);
    let mut round = || {
        let start = Instant::now();
        for _ in 0..PAIRS {
            let block = common::allocate(stack, next().borrow(), layout);
            common::free(stack, next().borrow(), block);
        }
        start.elapsed().as_nanos() as f64 / f64::from(PAIRS)
    };
    round();
    let mut times: Vec<f64> = (0..rounds).map(|_| round()).collect();
    times.sort_unstable_by(f64::total_cmp);
    times[times.len() / 2]
}

fn measure(spec: &StackSpec, device: &Device, rounds: usize) {
    let owners = [(); 4].map(|()| Stream::new(device).unwrap_or_else(|error| common::give_up(error)));
    // SAFETY: the streams outlive the stack, and the default streams always exist.
    let named = |handle: u64| unsafe { Stream::from_raw(device, handle) };
    let build = || common::build(spec, device);
    let mut calls = 0;
    let in_turn = || {
        // Both calls of a pair name one stream.
        let owner = &owners[calls / 2 % owners.len()];
        calls += 1;
        named(owner.as_raw())
    };
    let rows = [
        ("a kept handle", pair(&build(), rounds, || &owners[0])),
        ("one handle, named at each call", pair(&build(), rounds, || named(owners[0].as_raw()))),
        ("four handles in turn, named at each call", pair(&build(), rounds, in_turn)),
        ("the legacy default stream (1)", pair(&build(), rounds, || named(1))),
        ("the per-thread default stream (2)", pair(&build(), rounds, || named(2))),
    ];
    for (what, nanoseconds) in rows {
        println!("from_raw/{}/{spec}/{what:<42} {nanoseconds:>8.1} ns a pair", device.id());
    }
}

fn main() {
    // Like Criterion's benches, which make one round if Cargo only tests that they run.
    let rounds = if std::env::args().any(|arg| arg == "--test") { 1 } else { 51 };
    let device = common::device();
    for spec in common::stacks("device | pool; managed | pool | limit(80%) | statistics") {
        measure(&spec, &device, rounds);
    }
}
