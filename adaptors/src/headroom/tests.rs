//! The headroom beside counters behind one lock, with the same operations.

use super::{Amounts, Headroom, Shortage, Totals};
use proptest::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, mpsc};
use std::thread;

const THREADS: usize = 8;
const OPERATIONS: usize = if cfg!(miri) { 200 } else { 20_000 };

/// The same counts, without shards.
struct OneLock {
    shortage: Shortage,
    totals: Totals<2>,
}

impl OneLock {
    fn new(ceiling: Amounts<2>, shortage: Shortage) -> Self {
        Self { shortage, totals: Totals { ceiling, allocated: [0; 2], outstanding: [0; 2] } }
    }

    fn allocate(&mut self, amounts: Amounts<2>) -> Result<(), Totals<2>> {
        let now = self.totals;
        let sum: Amounts<2> = std::array::from_fn(|d| now.allocated[d] + amounts[d]);
        // A request of nothing fits in a dimension whose limit has fallen below what is allocated.
        if self.shortage == Shortage::Refuses && (0..2).any(|d| amounts[d] > 0 && sum[d] > now.ceiling[d]) {
            return Err(now);
        }
        let peak = std::array::from_fn(|d| now.ceiling[d].max(sum[d]));
        let ceiling = if self.shortage == Shortage::Raises { peak } else { now.ceiling };
        self.totals = Totals { ceiling, allocated: sum, outstanding: sum };
        Ok(())
    }

    fn free(&mut self, amounts: Amounts<2>) -> Result<(), Totals<2>> {
        let now = self.totals;
        if (0..2).any(|d| amounts[d] > now.allocated[d]) {
            return Err(now);
        }
        let rest = std::array::from_fn(|d| now.allocated[d] - amounts[d]);
        self.totals = Totals { allocated: rest, outstanding: rest, ..now };
        Ok(())
    }
}

#[derive(Debug, Clone, Copy)]
enum Op {
    Allocate(u64),
    /// Frees the block with this number, whichever thread allocated it.
    Free(usize),
    /// Frees so many bytes that were never allocated.
    FreeForeign(u64),
    SetCeiling(Amounts<2>),
    Read,
}

fn op() -> impl Strategy<Value = Op> {
    let bytes = || prop_oneof![0_u64..16, 0_u64..4096];
    prop_oneof![
        6 => bytes().prop_map(Op::Allocate),
        5 => any::<usize>().prop_map(Op::Free),
        1 => (0_u64..100_000).prop_map(Op::FreeForeign),
        1 => (0_u64..40_000, 0_u64..40).prop_map(|(bytes, blocks)| Op::SetCeiling([bytes, blocks])),
        1 => Just(Op::Read),
    ]
}

/// The headroom, the counters behind one lock, and the blocks that exist.
struct Both<'a> {
    counted: &'a Headroom<2, u64>,
    expected: OneLock,
    blocks: Vec<u64>,
    total: u64,
}

impl Both<'_> {
    fn run(&mut self, op: Op) {
        match op {
            Op::Allocate(bytes) => {
                let result = self.counted.mine().allocate([bytes, 1], |total| *total += bytes);
                assert_eq!(result, self.expected.allocate([bytes, 1]));
                if result.is_ok() {
                    self.blocks.push(bytes);
                    self.total += bytes;
                }
            }
            Op::Free(victim) if !self.blocks.is_empty() => {
                let bytes = self.blocks.swap_remove(victim % self.blocks.len());
                assert_eq!(self.counted.mine().free([bytes, 1]), self.expected.free([bytes, 1]));
            }
            Op::FreeForeign(bytes) if bytes > self.expected.totals.allocated[0] => {
                assert_eq!(self.counted.mine().free([bytes, 1]), self.expected.free([bytes, 1]));
            }
            Op::SetCeiling(ceiling) if self.expected.shortage == Shortage::Refuses => {
                self.counted.set_ceiling(ceiling);
                self.expected.totals.ceiling = ceiling;
            }
            Op::Read => self.compare(),
            Op::Free(_) | Op::FreeForeign(_) | Op::SetCeiling(_) => {}
        }
    }

    fn compare(&self) {
        let mut total = 0;
        assert_eq!(self.counted.read(|tally| total += tally), self.expected.totals);
        assert_eq!(total, self.total);
    }
}

/// Runs each operation on the thread with its number, one after the other.
fn run(ops: &[(usize, Op)], ceiling: Amounts<2>, shortage: Shortage) {
    let counted = Headroom::new(ceiling, shortage);
    let both =
        Mutex::new(Both { counted: &counted, expected: OneLock::new(ceiling, shortage), blocks: vec![], total: 0 });
    thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS).map(|_| worker(scope, &both)).collect();
        for (thread, op) in ops {
            let (orders, done) = &workers[*thread];
            orders.send(*op).unwrap();
            done.recv().expect("the counts are equal");
        }
    });
    both.lock().unwrap().compare();
}

/// Spawns a thread that runs the operations that it is sent, and reports each.
fn worker<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    both: &'scope Mutex<Both<'_>>,
) -> (mpsc::Sender<Op>, mpsc::Receiver<()>) {
    let ((orders, next), (report, done)) = (mpsc::channel(), mpsc::channel());
    scope.spawn(move || {
        for op in next {
            both.lock().unwrap().run(op);
            report.send(()).unwrap();
        }
    });
    (orders, done)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 2 } else { 48 }, ..ProptestConfig::default() })]

    #[test]
    fn a_peak_on_one_thread(ops in prop::collection::vec(op(), 1..2000)) {
        let ops: Vec<_> = ops.into_iter().map(|op| (0, op)).collect();
        run(&ops, [0, 0], Shortage::Raises);
    }

    #[test]
    fn a_limit_on_one_thread(ops in prop::collection::vec(op(), 1..2000)) {
        let ops: Vec<_> = ops.into_iter().map(|op| (0, op)).collect();
        run(&ops, [20_000, 20], Shortage::Refuses);
    }

    #[test]
    fn a_peak_on_threads_in_turns(ops in prop::collection::vec((0..THREADS, op()), 1..1000)) {
        run(&ops, [0, 0], Shortage::Raises);
    }

    #[test]
    fn a_limit_on_threads_in_turns(ops in prop::collection::vec((0..THREADS, op()), 1..1000)) {
        run(&ops, [20_000, 20], Shortage::Refuses);
    }
}

/// A small generator per thread (xorshift).
struct Rng(u64);

impl Rng {
    fn new(thread: usize) -> Self {
        Self((thread as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }
}

/// Threads run as they like. The order of the operations is that of a lock around each, so every result is comparable.
#[test]
fn threads_in_any_order() {
    for (ceiling, shortage) in [([0, 0], Shortage::Raises), ([50_000, 60], Shortage::Refuses)] {
        let counted = Headroom::new(ceiling, shortage);
        let expected = OneLock::new(ceiling, shortage);
        let both = Mutex::new(Both { counted: &counted, expected, blocks: vec![], total: 0 });
        thread::scope(|scope| {
            for seed in 0..THREADS {
                let both = &both;
                scope.spawn(move || {
                    let mut rng = Rng::new(seed);
                    for _ in 0..OPERATIONS {
                        let op = match rng.below(1000) {
                            0..500 => Op::Allocate(rng.below(4096)),
                            500..995 => Op::Free(rng.below(1 << 30) as usize),
                            995..997 => Op::SetCeiling([rng.below(60_000), rng.below(80)]),
                            997 => Op::FreeForeign(1 << 40),
                            _ => Op::Read,
                        };
                        both.lock().unwrap().run(op);
                    }
                });
            }
        });
        both.lock().unwrap().compare();
    }
}

/// Two counts around each operation: `least` never counts too much, `most` never too little.
#[derive(Default)]
struct Bounds {
    least: AtomicU64,
    most: AtomicU64,
    least_peak: AtomicU64,
    most_peak: AtomicU64,
}

impl Bounds {
    fn allocate(&self, counted: &Headroom<2, u64>, bytes: u64) -> bool {
        self.most_peak.fetch_max(self.most.fetch_add(bytes, SeqCst) + bytes, SeqCst);
        let fits = counted.mine().allocate([bytes, 1], |total| *total += bytes).is_ok();
        match fits {
            true => self.least_peak.fetch_max(self.least.fetch_add(bytes, SeqCst) + bytes, SeqCst),
            false => self.most.fetch_sub(bytes, SeqCst),
        };
        fits
    }

    fn free(&self, counted: &Headroom<2, u64>, bytes: u64) {
        self.least.fetch_sub(bytes, SeqCst);
        counted.mine().free([bytes, 1]).expect("the block is outstanding");
        self.most.fetch_sub(bytes, SeqCst);
    }
}

/// Runs threads that free each other's blocks, each with `held` blocks at most. Returns the number of refusals.
fn run_free(counted: &Headroom<2, u64>, bounds: &Bounds, held: usize, meanwhile: impl Fn(&mut Rng) + Sync) -> u64 {
    let blocks = [(); THREADS].map(|()| Mutex::new(Vec::new()));
    let refused = AtomicU64::new(0);
    thread::scope(|scope| {
        for seed in 0..THREADS {
            let (blocks, refused, meanwhile) = (&blocks, &refused, &meanwhile);
            scope.spawn(move || {
                let mut rng = Rng::new(seed);
                for _ in 0..OPERATIONS {
                    // A thread's blocks are in its own list. Every thread frees from every list.
                    let list = if rng.below(2) == 0 { seed } else { rng.below(THREADS as u64) as usize };
                    let taken = blocks[list].lock().unwrap().pop();
                    taken.into_iter().for_each(|bytes| bounds.free(counted, bytes));
                    let mut mine = blocks[seed].lock().unwrap();
                    if mine.len() < held {
                        let bytes = rng.below(1000);
                        match bounds.allocate(counted, bytes) {
                            true => mine.push(bytes),
                            false => _ = refused.fetch_add(1, SeqCst),
                        }
                    }
                    drop(mine);
                    meanwhile(&mut rng);
                }
            });
        }
    });
    blocks.map(|list| list.into_inner().unwrap()).into_iter().flatten().for_each(|bytes| bounds.free(counted, bytes));
    refused.into_inner()
}

#[test]
fn a_peak_of_unsynchronized_threads_is_between_its_bounds() {
    let (counted, bounds) = (Headroom::new([0, 0], Shortage::Raises), Bounds::default());
    let refused = run_free(&counted, &bounds, 4, |rng| {
        if rng.below(500) == 0 {
            let least = bounds.least_peak.load(SeqCst);
            let totals = counted.read(|_| ());
            assert!(least <= totals.ceiling[0] && totals.allocated[0] <= totals.ceiling[0], "{totals:?}, {least}");
            assert_eq!(totals.allocated, totals.outstanding);
        }
    });
    let [bytes, blocks] = counted.read(|_| ()).ceiling;
    let [least, most] = [&bounds.least_peak, &bounds.most_peak].map(|peak| peak.load(SeqCst));
    assert!((least..=most).contains(&bytes), "{bytes} is not between {least} and {most}");
    assert!(blocks <= 5 * THREADS as u64 && refused == 0, "{blocks} blocks, {refused} refusals");
    assert_eq!(counted.read(|_| ()).allocated, [0, 0]);
}

#[test]
fn a_limit_is_never_exceeded_by_unsynchronized_threads() {
    let limit = 5_000;
    let (counted, bounds) = (Headroom::new([limit, 1000], Shortage::Refuses), Bounds::default());
    let refused = run_free(&counted, &bounds, 4, |rng| {
        if rng.below(500) == 0 {
            counted.set_ceiling([limit - rng.below(1000), 1000]);
        }
    });
    assert!(bounds.least_peak.load(SeqCst) <= limit, "{} of {limit}", bounds.least_peak.load(SeqCst));
    assert!(refused > 0);
    assert_eq!(counted.read(|_| ()).allocated, [0, 0]);
}

/// Each thread has two blocks at most and frees one more, and there is room for as many of the largest.
#[test]
fn a_limit_refuses_no_fitting_request_of_unsynchronized_threads() {
    let most = 3 * THREADS as u64;
    let (counted, bounds) = (Headroom::new([most * 999, most], Shortage::Refuses), Bounds::default());
    assert_eq!(run_free(&counted, &bounds, 2, |_| ()), 0);
}

/// A thread allocates, and another one frees. A peak of a hundred thousand blocks is that of the few that exist at a time.
#[test]
fn blocks_of_a_producer_are_freed_by_a_consumer() {
    let counted = Headroom::<2, u64>::new([0, 0], Shortage::Raises);
    let (blocks, next) = mpsc::sync_channel::<u64>(8);
    thread::scope(|scope| {
        let counted = &counted;
        scope.spawn(move || next.into_iter().for_each(|bytes| counted.mine().free([bytes, 1]).unwrap()));
        for bytes in (0..OPERATIONS as u64).map(|step| step % 100) {
            counted.mine().allocate([bytes, 1], |total| *total += bytes).unwrap();
            blocks.send(bytes).unwrap();
        }
        drop(blocks);
    });
    let totals = counted.read(|_| ());
    // Eight in the channel, one in each thread.
    assert!((1..=10).contains(&totals.ceiling[1]), "{totals:?}");
    assert_eq!((totals.allocated, totals.outstanding), ([0, 0], [0, 0]));
}

#[test]
fn amounts_at_their_extremes() {
    let counted = Headroom::<1>::new([u64::MAX], Shortage::Refuses);
    counted.mine().allocate([u64::MAX], |()| ()).unwrap();
    assert!(counted.mine().allocate([1], |()| ()).is_err());
    counted.set_ceiling([0]);
    counted.mine().allocate([0], |()| ()).unwrap();
    assert_eq!(counted.read(|()| ()).allocated, [u64::MAX]);
    counted.mine().free([u64::MAX]).unwrap();
    assert_eq!(counted.mine().free([1]).unwrap_err().outstanding, [0]);
    assert!(counted.mine().allocate([1], |()| ()).is_err());
}
