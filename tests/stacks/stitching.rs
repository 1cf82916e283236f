//! A pool over mapped memory stitches: it serves a request from free pieces that are not adjacent.

use crate::common::simulated;
use cumem::error::CudaErrorCode;
use cumem::kernel::HostKernel;
use cumem::sim::faults::enumerate;
use cumem::sim::{FaultCall, Profile};
use cumem::{AllocError, Buffer, CudaVirtualResource, Device, Stream};
use cumem_adaptors::pool::{Pool, PoolOptions};

const MIB: usize = 1 << 20;
/// The blocks that are freed, of 16 blocks of 3 MiB. A granule has 2 MiB, so every other hole begins in the middle of a
/// granule and the others end in the middle of one. Two holes make 6 MiB together, and one hole serves at most 3 MiB.
const HOLES: [usize; 6] = [0, 3, 6, 9, 12, 15];

on_devices!(
    a_full_pool_serves_a_request_from_pieces,
    contents_stay_apart,
    what_was_stitched_is_used_at_home_again,
    all_memory_returns_to_the_driver,
    chunks_stay_while_they_are_mapped_twice,
);

type Stack = Pool<CudaVirtualResource>;
type Words<'a> = Buffer<u32, &'a Stack>;

fn pool_with(device: &Device, options: PoolOptions) -> Stack {
    Pool::new(CudaVirtualResource::new(device).unwrap(), options).unwrap()
}

/// A pool with a maximum of 48 MiB.
fn pool(device: &Device) -> Stack {
    pool_with(device, PoolOptions::new().maximum(48 * MIB).step(2 * MIB))
}

fn words<'a>(pool: &'a Stack, stream: &Stream, bytes: usize, seed: u32) -> Result<Words<'a>, AllocError> {
    let data: Vec<u32> = (0..bytes as u32 / 4).map(|i| i.wrapping_mul(2_654_435_761) ^ seed).collect();
    Buffer::from_slice(&data, stream, pool)
}

fn check(words: &Words<'_>, seed: u32) {
    let found = words.to_vec().unwrap();
    let wrong = found.iter().zip(0_u32..).position(|(&word, i)| word != i.wrapping_mul(2_654_435_761) ^ seed);
    assert_eq!(wrong, None, "in the block with seed {seed}");
}

/// Allocates all of the pool's memory in blocks of 3 MiB, then frees those in `HOLES`.
fn broken_up<'a>(pool: &'a Stack, stream: &Stream) -> Vec<(u32, Words<'a>)> {
    let all: Vec<_> = (0..16).map(|seed| (seed, words(pool, stream, 3 * MIB, seed).unwrap())).collect();
    all.into_iter().filter(|(seed, _)| !HOLES.contains(&(*seed as usize))).collect()
}

/// Allocates three blocks of 6 MiB, which take all holes.
fn stitched<'a>(pool: &'a Stack, stream: &Stream) -> Vec<(u32, Words<'a>)> {
    (100..103).map(|seed| (seed, words(pool, stream, 6 * MIB, seed).unwrap())).collect()
}

fn at_home(pool: &Stack, words: &Words<'_>) -> bool {
    pool.upstream().addresses().contains(&words.device_address())
}

fn a_full_pool_serves_a_request_from_pieces(device: &Device) {
    let (pool, stream) = (pool(device), Stream::new(device).unwrap());
    let kept = broken_up(&pool, &stream);
    let stats = pool.stats();
    assert_eq!((stats.reserved, stats.free, stats.largest_free), (48 * MIB, 18 * MIB, 3 * MIB));
    let large = stitched(&pool, &stream);
    assert!(
        large.iter().all(|(_, words)| !at_home(&pool, words)) && kept.iter().all(|(_, words)| at_home(&pool, words))
    );
    let stats = pool.stats();
    assert_eq!((stats.reserved, stats.allocated, stats.free), (48 * MIB, 48 * MIB, 0));
    if let Some(simulator) = device.simulator() {
        let live = simulator.live_allocations();
        assert_eq!((live.mapped.bytes, live.aliased.blocks > 0), (48 * MIB as u64, true), "{live}");
    }
    let refused = words(&pool, &stream, 256, 0).unwrap_err();
    assert!(matches!(refused, AllocError::Exhausted { requested: 256, .. }), "{refused}");
}

fn contents_stay_apart(device: &Device) {
    let (pool, stream) = (pool(device), Stream::new(device).unwrap());
    let mut live = broken_up(&pool, &stream);
    live.extend(stitched(&pool, &stream));
    live.iter().for_each(|(seed, words)| check(words, *seed));
    // In the other order: the blocks beside the stitches are written after the stitches.
    for (seed, words) in &mut live {
        *seed += 1000;
        let data: Vec<u32> = (0..words.len() as u32).map(|i| i.wrapping_mul(2_654_435_761) ^ *seed).collect();
        words.copy_from_slice(&data).unwrap();
    }
    live.iter().for_each(|(seed, words)| check(words, *seed));
}

fn what_was_stitched_is_used_at_home_again(device: &Device) {
    let (pool, stream, second) = (pool(device), Stream::new(device).unwrap(), Stream::new(device).unwrap());
    let kept = broken_up(&pool, &stream);
    drop(stitched(&pool, &stream));
    // These blocks reuse parts of stitches, and the holes at their own addresses.
    let small: Vec<_> = (200..209).map(|seed| (seed, words(&pool, &second, 2 * MIB, seed).unwrap())).collect();
    kept.iter().chain(&small).for_each(|(seed, words)| check(words, *seed));
    assert_eq!(pool.stats().free, 0);
    drop((kept, small));
    let whole = words(&pool, &second, 48 * MIB, 300).unwrap();
    assert!(at_home(&pool, &whole), "it is one piece again");
    check(&whole, 300);
}

fn all_memory_returns_to_the_driver(device: &Device) {
    let (pool, stream) = (pool(device), Stream::new(device).unwrap());
    let kept = broken_up(&pool, &stream);
    let large = stitched(&pool, &stream);
    drop(kept);
    // A trim does not free memory that a stitch maps.
    let given = pool.trim().unwrap();
    assert_eq!(pool.stats().reserved, 48 * MIB - given);
    large.iter().for_each(|(seed, words)| check(words, *seed));
    drop(large);
    assert_eq!(pool.trim(), Ok(48 * MIB - given));
    assert_eq!(pool.upstream().gaps().len(), 1);
    if let Some(simulator) = device.simulator() {
        let live = simulator.live_allocations();
        assert_eq!((live.mapped.blocks, live.aliased.blocks), (0, 0), "{live}");
    }
}

fn chunks_stay_while_they_are_mapped_twice(device: &Device) {
    let (pool, stream) = (pool(device), Stream::new(device).unwrap());
    let kept = broken_up(&pool, &stream);
    drop(stitched(&pool, &stream));
    let small: Vec<_> = (200..209).map(|seed| (seed, words(&pool, &stream, 2 * MIB, seed).unwrap())).collect();
    let mut of_stitches = small.into_iter().filter(|(_, words)| !at_home(&pool, words));
    let (seed, last) = of_stitches.next().expect("a part of what was stitched is used again");
    drop((kept, of_stitches));
    // Some of the chunks under the stitch of `last` have no other live block.
    pool.trim().unwrap();
    check(&last, seed);
    let stats = pool.stats();
    assert!(stats.reserved > 2 * MIB && stats.free > 0, "{stats}");
    drop(last);
    assert_eq!(pool.trim(), Ok(stats.reserved));
}

#[test]
fn addresses_stay_until_the_work_that_uses_them_is_done() {
    let device = simulated();
    let simulator = device.simulator().unwrap();
    simulator.detect_races(true);
    let (pool, stream, second) = (pool(&device), Stream::new(&device).unwrap(), Stream::new(&device).unwrap());
    let kept = broken_up(&pool, &stream);
    let large = stitched(&pool, &stream);
    for (_, words) in &large {
        let slow = HostKernel::new("slow", |memory| memory.write::<u8>(0).fill(1)).operations(1_000_000_000_000);
        let slow = slow.writes(words.device_address(), words.size_bytes());
        // SAFETY: the block is freed in the order of this stream, and no other work uses it.
        unsafe { stream.launch_host(slow) }.unwrap();
    }
    drop(large);
    let aliased = || simulator.live_allocations().aliased.blocks;
    let before = aliased();
    // Larger than any free piece, so the pool stitches again while the kernels run.
    let larger: Vec<_> = (0..2).map(|_| Words::zeroed(2 * MIB, &second, &pool).unwrap()).collect();
    assert_eq!((stream.is_idle(), aliased() > before), (Ok(false), true));
    assert!(larger.iter().all(|words| words.to_vec().unwrap().iter().all(|&word| word == 0)), "after the kernels");
    kept.iter().for_each(|(seed, words)| check(words, *seed));
    assert_eq!(simulator.take_races(), []);
    drop((kept, larger));
    assert_eq!(pool.trim(), Ok(48 * MIB));
    assert_eq!(simulator.live_allocations().aliased.blocks, 0);
}

#[test]
fn a_maximum_is_kept_in_whole_granules() {
    let device = simulated();
    let pool = pool_with(&device, PoolOptions::new().initial(37 * MIB).maximum(37 * MIB));
    assert_eq!(pool.stats().reserved, 36 * MIB);
    assert_eq!(device.simulator().unwrap().live_allocations().mapped.bytes, 36 * MIB as u64);
}

#[test]
fn the_pool_grows_if_the_driver_refuses_an_alias() {
    let device = simulated();
    let simulator = device.simulator().unwrap();
    let stream = Stream::new(&device).unwrap();
    let pool = pool_with(&device, PoolOptions::new().step(2 * MIB).slack(0));
    let kept = broken_up(&pool, &stream);
    simulator.fail_nth(FaultCall::Map, 1, CudaErrorCode::NOT_SUPPORTED);
    let grown = words(&pool, &stream, 6 * MIB, 1).unwrap();
    assert_eq!((simulator.pending_faults(), at_home(&pool, &grown)), (0, true));
    assert!(pool.stats().reserved > 48 * MIB);
    drop((kept, grown));
}

#[test]
fn a_refusal_of_any_call_loses_nothing() {
    let report = enumerate(&Profile::default(), |device| -> Result<(), Box<dyn std::error::Error>> {
        let (stream, second) = (Stream::new(device)?, Stream::new(device)?);
        let pool = Pool::new(CudaVirtualResource::new(device)?, PoolOptions::new().maximum(12 * MIB).step(2 * MIB))?;
        let take = |stream: &Stream, bytes| Buffer::<u8, _>::zeroed(bytes, stream, &pool);
        let mut blocks = (0..4).map(|_| take(&stream, 3 * MIB)).collect::<Result<Vec<_>, _>>()?;
        blocks.swap_remove(0);
        blocks.swap_remove(0);
        let stitched = take(&second, 6 * MIB)?;
        drop(stitched);
        let whole = take(&stream, 5 * MIB)?;
        drop((blocks, whole));
        pool.trim()?;
        Ok(())
    });
    report.assert();
}

#[test]
fn an_alias_that_the_driver_does_not_unmap_fails_no_allocation() {
    let device = simulated();
    let simulator = device.simulator().unwrap();
    let stream = Stream::new(&device).unwrap();
    let pool = pool_with(&device, PoolOptions::new().step(2 * MIB).slack(0));
    let kept = broken_up(&pool, &stream);
    drop(words(&pool, &stream, 6 * MIB, 100).unwrap());
    let aliased = || simulator.live_allocations().aliased.blocks;
    assert!(aliased() > 0);
    simulator.fail_nth(FaultCall::Free, 1, CudaErrorCode::UNKNOWN);
    // The pool dissolves the stitch for this block, and maps new memory for the rest.
    let large = words(&pool, &stream, 20 * MIB, 101).unwrap();
    assert_eq!(simulator.pending_faults(), 0);
    check(&large, 101);
    drop((kept, large));
    pool.trim().unwrap();
    assert_eq!((pool.stats().reserved, aliased()), (0, 0), "it was tried again");
}

#[test]
fn stitches_that_touch_are_not_one() {
    let device = simulated();
    let stream = Stream::new(&device).unwrap();
    let pool = pool_with(&device, PoolOptions::new().maximum(16 * MIB).step(2 * MIB));
    let mut kept: Vec<_> = (0..8).map(|seed| Some((seed, words(&pool, &stream, 2 * MIB, seed).unwrap()))).collect();
    kept.iter_mut().step_by(2).for_each(|hole| *hole = None);
    let two: Vec<_> = (0..2).map(|seed| words(&pool, &stream, 4 * MIB, seed).unwrap()).collect();
    let [first, second] = [&two[0], &two[1]].map(Words::device_address);
    assert_eq!(first.abs_diff(second), 4 << 20, "they touch");
    drop(two);
    let across = words(&pool, &stream, 6 * MIB, 100).unwrap();
    kept.iter().flatten().for_each(|(seed, words)| check(words, *seed));
    check(&across, 100);
    drop((kept, across));
    assert_eq!(pool.trim(), Ok(16 * MIB));
    let live = device.simulator().unwrap().live_allocations();
    assert_eq!((live.mapped.blocks, live.aliased.blocks), (0, 0), "{live}");
}
