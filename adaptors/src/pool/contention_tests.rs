//! What the pool does where threads that miss wait for each other.

use super::adaptor::Pool;
use super::miss::{BITE, GRANULARITY, MEETINGS};
use super::options::PoolOptions;
use super::state::PoolState;
use cumem::sim::Profile;
use cumem::{CudaResource, Device, MemoryResource, Stream, layout};
use std::thread;

#[test]
fn threads_that_keep_meeting_have_the_pool_grow() {
    let device = Device::simulated(Profile::default()).unwrap();
    let options = PoolOptions::new().step(GRANULARITY).maximum(2 * GRANULARITY);
    let pool = Pool::new(CudaResource::new(&device), options).unwrap();
    // Streams that keep nothing live, so that each can take what the one before has free.
    let allocate = |bytes: usize| {
        let stream = Stream::new(&device).unwrap();
        let block = pool.allocate(&stream, layout::bytes(bytes).unwrap()).unwrap();
        // SAFETY: nobody uses it.
        unsafe { pool.deallocate(&stream, block) }.unwrap();
        (stream, pool.stats().reserved / GRANULARITY)
    };
    let (_first, reserved) = allocate(BITE);
    assert_eq!(reserved, 1);
    let meet = |times: u32| pool.state.lock().meetings = times;
    meet(MEETINGS - 1);
    let (_second, reserved) = allocate(BITE / 4);
    assert_eq!(reserved, 1, "not yet");
    meet(MEETINGS);
    let (_third, reserved) = allocate(BITE);
    assert_eq!(reserved, 1, "not for so much");
    let (_fourth, reserved) = allocate(BITE / 4);
    assert_eq!((reserved, pool.state.lock().meetings), (2, 0));
    meet(MEETINGS);
    let (_fifth, reserved) = allocate(BITE);
    assert_eq!(reserved, 2);
    let (_sixth, reserved) = allocate(BITE / 4);
    assert_eq!((reserved, pool.state.lock().meetings), (2, 0), "no more than the maximum");
}

#[test]
fn a_thread_that_waits_for_another_is_counted() {
    let device = Device::simulated(Profile::default()).unwrap();
    let state = PoolState::new(device, None).unwrap();
    drop(state.lock_for_miss());
    assert_eq!(state.lock().meetings, 0);
    while state.lock().meetings == 0 {
        thread::scope(|scope| {
            let held = state.lock();
            scope.spawn(|| drop(state.lock_for_miss()));
            thread::yield_now();
            drop(held);
        });
    }
}
