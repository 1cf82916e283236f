//! Many streams and many threads.

use crate::common::{free, sim};
use crate::source::Source;
use cumem::kernel::HostKernel;
use cumem::{AllocError, Buffer, CudaResource, Device, MemoryResource, Stream, layout};
use cumem_adaptors::{Crossing, Pool, PoolOptions};
use std::thread;

const MIB: usize = 1 << 20;

fn pool(device: &Device, options: PoolOptions) -> Pool<Source<CudaResource>> {
    Pool::new(Source::new(CudaResource::new(device)), options).unwrap()
}

#[test]
fn ten_thousand_short_lived_streams_leave_nothing_behind() {
    let (device, _) = sim();
    let pool = pool(&device, PoolOptions::new());
    for i in 0..10_000 {
        let stream = Stream::new(&device).unwrap();
        let block = pool.allocate(&stream, layout::bytes(1000 + i).unwrap()).unwrap();
        free(&pool, &stream, block).unwrap();
    }
    let stats = pool.stats();
    assert_eq!(stats.reserved, 2 * MIB, "each takes over what the last has left");
    assert!(stats.streams <= 2, "{stats:?}");
}

#[test]
fn more_streams_than_slots_at_once() {
    let (device, _) = sim();
    let pool = pool(&device, PoolOptions::new());
    let streams: Vec<_> = (0..1000).map(|_| Stream::new(&device).unwrap()).collect();
    for round in 0..3 {
        let blocks: Vec<_> =
            streams.iter().map(|stream| pool.allocate(stream, layout::bytes(4096).unwrap()).unwrap()).collect();
        // Blocks are freed on their own stream in one round, and on a neighbouring stream in the next.
        for (i, block) in blocks.into_iter().enumerate() {
            free(&pool, &streams[(i + round) % 1000], block).unwrap();
        }
    }
    assert_eq!((pool.stats().blocks, pool.stats().requested), (0, 0));
    pool.trim().unwrap();
    assert_eq!(pool.stats().reserved, 0);
}

/// Allocates and frees, and sends every eighth block to the next thread, which frees it on its own stream.
fn churn(pool: &Pool<Source<CudaResource>>, streams: &[Stream], rounds: usize) {
    let (senders, receivers): (Vec<_>, Vec<_>) = streams.iter().map(|_| std::sync::mpsc::channel()).unzip();
    thread::scope(|scope| {
        for (i, receiver) in receivers.into_iter().enumerate() {
            let next = senders[(i + 1) % streams.len()].clone();
            let stream = &streams[i];
            scope.spawn(move || {
                let mut live = Vec::new();
                let mut seed = 0x9e37_79b9_u64.wrapping_mul(i as u64 + 1) | 1;
                for round in 0..rounds {
                    seed ^= seed << 13;
                    seed ^= seed >> 7;
                    seed ^= seed << 17;
                    let bytes = 1 + (seed as usize >> 8) % (1 << (8 + seed % 12));
                    match pool.allocate(stream, layout::bytes(bytes).unwrap()) {
                        Ok(block) => live.push(block),
                        // Blocks in the channels count too, so the limit may be reached at any time.
                        Err(error) => {
                            assert!(
                                matches!(&error, AllocError::Exhausted { held, .. } if held.maximum.is_some()),
                                "{error}"
                            );
                            live.drain(..).for_each(|block| free(pool, stream, block).unwrap());
                        }
                    }
                    if live.len() > 32 {
                        let block = live.swap_remove(seed as usize % live.len());
                        if round % 8 == 0 {
                            // The next thread may have ended.
                            if let Err(back) = next.send(block) {
                                free(pool, stream, back.0).unwrap();
                            }
                        } else {
                            free(pool, stream, block).unwrap();
                        }
                    }
                    for block in receiver.try_iter() {
                        free(pool, stream, block).unwrap();
                    }
                    if round % 512 == 0 {
                        let stats = pool.stats();
                        assert_eq!(stats.allocated + stats.free, stats.reserved);
                    }
                }
                drop(next);
                for block in live.into_iter().chain(receiver.try_iter()) {
                    free(pool, stream, block).unwrap();
                }
                receiver
            });
        }
    });
}

#[test]
fn threads_with_streams_of_their_own() {
    let (device, _) = sim();
    let pool = pool(&device, PoolOptions::new());
    let streams: Vec<_> = (0..6).map(|_| Stream::new(&device).unwrap()).collect();
    churn(&pool, &streams, 4000);
    drop(pool);
}

#[test]
fn threads_on_one_stream() {
    let (device, stream) = sim();
    let pool = pool(&device, PoolOptions::new());
    churn(&pool, &vec![stream; 6], 4000);
}

#[test]
fn threads_that_exhaust_a_pool_share_its_memory() {
    let (device, _) = sim();
    let pool = pool(&device, PoolOptions::new().maximum(40 * MIB).step(MIB));
    let streams: Vec<_> = (0..4).map(|_| Stream::new(&device).unwrap()).collect();
    churn(&pool, &streams, 4000);
}

/// A long copy must not read bytes that another stream writes after it, however the memory moved between the streams.
#[test]
fn memory_that_crosses_streams_is_not_reused_too_early() {
    let (device, a) = sim();
    let b = Stream::new(&device).unwrap();
    // Room for one and a half of these blocks.
    let pool = pool(&device, PoolOptions::new().maximum(12 * MIB).step(12 * MIB));
    let leaf = CudaResource::new(&device);
    let mut kept = Buffer::<u8, _>::zeroed(8 * MIB, &a, &leaf).unwrap();
    for round in 1..20_u8 {
        let (first, second) = if round % 2 == 0 { (&a, &b) } else { (&b, &a) };
        kept.set_stream(first).unwrap();
        let source = Buffer::from_slice(&vec![round; 8 * MIB], first, &pool).unwrap();
        let busy = HostKernel::new("busy", |_| ()).operations(1_000_000_000_000);
        // SAFETY: the kernel touches nothing.
        unsafe { first.launch_host(busy) }.unwrap();
        kept.copy_from_buffer(&source).unwrap();
        drop(source);
        // The copy has not begun when the other stream gets the memory and overwrites it.
        drop(Buffer::<u8, _>::zeroed(8 * MIB, second, &pool).unwrap());
        assert!(kept.to_vec().unwrap().iter().all(|&byte| byte == round), "round {round}");
    }
}

#[test]
fn memory_freed_on_an_ended_threads_default_stream_is_reused() {
    let (device, stream) = sim();
    let pool = pool(&device, PoolOptions::new().maximum(8 * MIB));
    thread::scope(|scope| {
        scope.spawn(|| {
            let own = Stream::per_thread_default(&device);
            let block = pool.allocate(&own, layout::bytes(8 * MIB).unwrap()).unwrap();
            free(&pool, &own, block).unwrap();
        });
    });
    // No other thread can record an event on that stream. An event of the device takes its place.
    let block = pool.allocate(&stream, layout::bytes(8 * MIB).unwrap()).unwrap();
    free(&pool, &stream, block).unwrap();
    assert_eq!(pool.stats().reserved, 8 * MIB);
}

#[test]
fn the_crossing_option_selects_waiting_or_growing() {
    let (device, a) = sim();
    let b = Stream::new(&device).unwrap();
    for (crossing, reserved) in [(Crossing::WaitFirst, 8), (Crossing::GrowFirst, 16)] {
        let pool = pool(&device, PoolOptions::new().crossing(crossing));
        let block = pool.allocate(&a, layout::bytes(8 * MIB).unwrap()).unwrap();
        let busy = HostKernel::new("busy", |_| ()).operations(1_000_000_000_000);
        // SAFETY: the kernel touches nothing.
        unsafe { a.launch_host(busy) }.unwrap();
        free(&pool, &a, block).unwrap();
        let block = pool.allocate(&b, layout::bytes(8 * MIB).unwrap()).unwrap();
        assert_eq!(pool.stats().reserved, reserved * MIB);
        free(&pool, &b, block).unwrap();
        a.synchronize().unwrap();
        // The work is done now: no stream waits, and the pool does not grow.
        let blocks = [&a, &b].map(|_| pool.allocate(&b, layout::bytes(reserved / 2 * MIB).unwrap()).unwrap());
        assert_eq!(pool.stats().reserved, reserved * MIB);
        for block in blocks {
            free(&pool, &b, block).unwrap();
        }
    }
}
