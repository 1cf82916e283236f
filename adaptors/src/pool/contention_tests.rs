//! Tests: the pool grows if threads that miss keep waiting for each other.

use super::adaptor::Pool;
use super::miss::{CONTENDED_MISSES_MAX, PREFERRED_BYTES};
use super::options::PoolOptions;
use super::step::GRANULARITY;
use cumem::sim::Profile;
use cumem::{CudaResource, Device, MemoryResource, Stream, layout};
use std::thread;

#[test]
fn threads_that_keep_waiting_for_each_other_make_the_pool_grow() {
    let device = Device::simulated(Profile::default()).unwrap();
    let options = PoolOptions::new().step(GRANULARITY).maximum(2 * GRANULARITY);
    let pool = Pool::new(CudaResource::new(&device), options).unwrap();
    // These streams keep nothing live, so each can take the free memory of the one before.
    let allocate = |bytes: usize| {
        let stream = Stream::new(&device).unwrap();
        let block = pool.allocate(&stream, layout::bytes(bytes).unwrap()).unwrap();
        // SAFETY: nothing uses the block.
        unsafe { pool.deallocate(&stream, block) }.unwrap();
        (stream, pool.stats().reserved / GRANULARITY)
    };
    let (_first, reserved) = allocate(PREFERRED_BYTES);
    assert_eq!(reserved, 1);
    let set_contended = |times: u32| pool.state.lock().unwrap().contended_misses = times;
    set_contended(CONTENDED_MISSES_MAX - 1);
    let (_second, reserved) = allocate(PREFERRED_BYTES / 4);
    assert_eq!(reserved, 1, "not yet");
    set_contended(CONTENDED_MISSES_MAX);
    let (_third, reserved) = allocate(PREFERRED_BYTES);
    assert_eq!(reserved, 1, "not for so much");
    let (_fourth, reserved) = allocate(PREFERRED_BYTES / 4);
    assert_eq!((reserved, pool.state.lock().unwrap().contended_misses), (2, 0));
    set_contended(CONTENDED_MISSES_MAX);
    let (_fifth, reserved) = allocate(PREFERRED_BYTES);
    assert_eq!(reserved, 2);
    let (_sixth, reserved) = allocate(PREFERRED_BYTES / 4);
    assert_eq!((reserved, pool.state.lock().unwrap().contended_misses), (2, 0), "no more than the maximum");
}

#[test]
fn a_thread_that_waits_for_another_is_counted() {
    let device = Device::simulated(Profile::default()).unwrap();
    let pool = Pool::new(CudaResource::new(&device), PoolOptions::new()).unwrap();
    let state = &pool.state;
    drop(state.lock_for_miss(true));
    assert_eq!(state.lock().unwrap().contended_misses, 0);
    while state.lock().unwrap().contended_misses == 0 {
        thread::scope(|scope| {
            let held = state.lock();
            scope.spawn(|| drop(state.lock_for_miss(true)));
            thread::yield_now();
            drop(held);
        });
    }
}
