//! `Limiter` and `Statistics` with threads that free each other's blocks.

use crate::common::{free, sim};
use cumem::{Block, CudaResource, Device, HostResource, MemoryResource, Stream, layout};
use cumem_adaptors::{Counts, Limiter, ResourceExt, Statistics};
use cumem_conformance::Rng;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

const THREADS: u64 = 8;
const OPERATIONS: usize = 2_000;
const LIMIT: usize = 64 << 10;

fn counted(block: &Block) -> usize {
    block.size().next_multiple_of(256)
}

/// The same counts behind one lock, and the live blocks.
#[derive(Default)]
struct OneLock {
    counts: [i64; 2],
    peaks: [i64; 2],
    totals: [u64; 2],
    failures: u64,
    limit: usize,
    allocated: usize,
    live: Vec<Block>,
}

impl OneLock {
    fn allocated(&mut self, block: Block) {
        self.counts = [self.counts[0] + block.size() as i64, self.counts[1] + 1];
        self.totals = [self.totals[0] + block.size() as u64, self.totals[1] + 1];
        self.peaks = std::array::from_fn(|d| self.peaks[d].max(self.counts[d]));
        self.allocated += counted(&block);
        self.live.push(block);
    }

    fn freed(&mut self, bytes: usize) {
        self.counts = [self.counts[0] - bytes as i64, self.counts[1] - 1];
        self.allocated -= bytes.next_multiple_of(256);
    }

    fn compare(&self, counts: Counts) {
        assert_eq!([counts.current_bytes, counts.current_blocks], self.counts);
        assert_eq!([counts.peak_bytes, counts.peak_blocks], self.peaks);
        assert_eq!([counts.total_bytes, counts.total_blocks], self.totals);
        assert_eq!(counts.failures, self.failures);
    }
}

fn step(stack: &Statistics<Limiter<HostResource>>, stream: &Stream, one_lock: &mut OneLock, rng: &mut Rng) {
    let limiter = stack.upstream().state();
    match rng.below(100) {
        0..52 => {
            let bytes = rng.below(4096);
            let fits = one_lock.allocated + bytes.next_multiple_of(256) <= one_lock.limit || bytes == 0;
            match stack.allocate(stream, layout::bytes(bytes).unwrap()) {
                Ok(block) => {
                    assert!(fits, "{bytes} bytes do not fit");
                    one_lock.allocated(block);
                }
                Err(error) => {
                    assert!(!fits, "{bytes} bytes fit: {error}");
                    let (allocated, limit) = (one_lock.allocated, one_lock.limit);
                    assert_eq!(
                        error,
                        cumem::AllocError::LimitExceeded { layer: "limit".into(), requested: bytes, allocated, limit }
                    );
                    one_lock.failures += 1;
                }
            }
        }
        52..98 if !one_lock.live.is_empty() => {
            let block = one_lock.live.swap_remove(rng.below(one_lock.live.len()));
            one_lock.freed(block.size());
            free(stack, stream, block).unwrap();
        }
        98 => {
            one_lock.limit = rng.below(2 * LIMIT);
            limiter.set_bytes(one_lock.limit);
        }
        _ => {
            one_lock.compare(stack.state().counts());
            assert_eq!((limiter.allocated(), limiter.bytes()), (one_lock.allocated, one_lock.limit));
            assert_eq!(limiter.remaining(), one_lock.limit.saturating_sub(one_lock.allocated));
        }
    }
}

/// Random programs of eight threads. Each step is made under a lock of the test, so that its result is certain.
#[test]
fn counts_are_those_of_counters_behind_one_lock() {
    let (device, stream) = sim();
    let stack = HostResource::new(&device).limit(LIMIT).statistics();
    let one_lock = Mutex::new(OneLock { limit: LIMIT, ..OneLock::default() });
    thread::scope(|scope| {
        for seed in 0..THREADS {
            let (stack, stream, one_lock) = (&stack, &stream, &one_lock);
            scope.spawn(move || {
                let mut rng = Rng::new(seed);
                (0..OPERATIONS).for_each(|_| step(stack, stream, &mut one_lock.lock().unwrap(), &mut rng));
            });
        }
    });
    let mut one_lock = one_lock.into_inner().unwrap();
    for block in std::mem::take(&mut one_lock.live) {
        one_lock.freed(block.size());
        free(&stack, &stream, block).unwrap();
    }
    one_lock.compare(stack.state().counts());
    assert_eq!((stack.state().counts().current_bytes, stack.upstream().state().allocated()), (0, 0));
}

/// The bytes that a stack really has out: raised after each allocation, lowered before each free.
struct Real(AtomicUsize);

impl Real {
    fn of_limit(&self, device: &Device, limit: usize) -> usize {
        let stack = CudaResource::new(device).limit(limit).statistics();
        let passed = Mutex::new(Vec::<Block>::new());
        thread::scope(|scope| {
            for seed in 0..THREADS {
                let (stack, passed) = (&stack, &passed);
                scope.spawn(move || {
                    let (stream, mut rng) = (Stream::new(device).unwrap(), Rng::new(seed));
                    for _ in 0..OPERATIONS {
                        if let Ok(block) = stack.allocate(&stream, layout::bytes(rng.below(4096)).unwrap()) {
                            let real = self.0.fetch_add(counted(&block), Relaxed) + counted(&block);
                            assert!(real <= limit, "{real} of {limit} bytes");
                            passed.lock().unwrap().push(block);
                        }
                        let length = passed.lock().unwrap().len();
                        let block = (length > 20).then(|| passed.lock().unwrap().pop()).flatten();
                        for block in block.into_iter() {
                            self.0.fetch_sub(counted(&block), Relaxed);
                            free(stack, &stream, block).unwrap();
                        }
                    }
                });
            }
        });
        let stream = Stream::new(device).unwrap();
        passed.into_inner().unwrap().into_iter().for_each(|block| free(&stack, &stream, block).unwrap());
        let counts = stack.state().counts();
        assert_eq!((counts.current_bytes, counts.current_blocks, stack.upstream().state().allocated()), (0, 0, 0));
        assert!(counts.peak_bytes as usize <= limit);
        counts.failures as usize
    }
}

#[test]
fn a_limit_is_never_passed_by_threads_that_free_each_others_blocks() {
    let (device, _) = sim();
    assert!(Real(AtomicUsize::new(0)).of_limit(&device, 40 << 10) > 0, "the limit is never reached");
}

/// Blocks that one thread allocates and another one frees, one after the other: the peak is that of one block.
#[test]
fn a_peak_of_blocks_that_are_handed_over_is_exact() {
    let (device, stream) = sim();
    let stack = HostResource::new(&device).limit(8192).statistics();
    thread::scope(|scope| {
        let (send, receive) = std::sync::mpsc::sync_channel::<Block>(0);
        let (freed, free_again) = std::sync::mpsc::sync_channel(0);
        let (stack, stream) = (&stack, &stream);
        scope.spawn(move || {
            for block in receive {
                free(stack, stream, block).unwrap();
                freed.send(()).unwrap();
            }
        });
        for step in 0..OPERATIONS {
            send.send(stack.allocate(stream, layout::bytes(1 + step % 8192).unwrap()).unwrap()).unwrap();
            free_again.recv().unwrap();
        }
    });
    let counts = stack.state().counts();
    assert_eq!((counts.peak_bytes, counts.peak_blocks), (OPERATIONS.min(8192) as i64, 1));
    assert_eq!((counts.total_blocks, counts.current_blocks), (OPERATIONS as u64, 0));
}
