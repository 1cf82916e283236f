//! Stream-ordered pools.

use super::super::Profile;
use super::{MIB, Rig};
use cumem_driver::{CudaErrorCode, Driver, DriverError, HostKernel, PoolMemory, PoolProperties, RawPool, RawStream};
use std::ptr::NonNull;

impl Rig {
    fn pool(&self) -> RawPool {
        self.sim.create_pool(0, &PoolProperties::default()).unwrap()
    }

    fn take(&self, pool: RawPool, bytes: usize, stream: RawStream) -> Result<NonNull<u8>, DriverError> {
        // SAFETY: pool and stream are live.
        unsafe { self.sim.allocate_async(0, pool, bytes, stream) }
    }

    fn give(&self, ptr: NonNull<u8>, stream: RawStream) -> Result<(), DriverError> {
        // SAFETY: the tests use memory after its free only in calls that are rejected.
        unsafe { self.sim.free_async(0, ptr, stream) }
    }

    fn usage(&self, pool: RawPool) -> (u64, u64) {
        // SAFETY: the pool is live.
        let usage = unsafe { self.sim.pool_usage(0, pool) }.unwrap();
        (usage.reserved, usage.used)
    }

    fn keep_all(&self, pool: RawPool) {
        // SAFETY: the pool is live.
        unsafe { self.sim.set_release_threshold(0, pool, u64::MAX) }.unwrap();
    }

    fn busy(&self, stream: RawStream) {
        self.launch(HostKernel::new("busy", |_| ()).operations(67_000_000_000), stream).unwrap();
    }
}

#[test]
fn the_same_stream_reuses_at_once_and_another_when_the_free_is_passed() {
    let rig = Rig::h100();
    let (pool, other) = (rig.pool(), rig.second_stream());
    let block = rig.take(pool, MIB, rig.stream).unwrap();
    rig.busy(rig.stream);
    rig.give(block, rig.stream).unwrap();
    let elsewhere = rig.take(pool, MIB, other).unwrap();
    assert_ne!(elsewhere, block, "its stream has not passed the free");
    assert_eq!(rig.take(pool, MIB, rig.stream).unwrap(), block);
    rig.give(block, rig.stream).unwrap();
    rig.give(elsewhere, other).unwrap();
    // SAFETY: the stream is live.
    while !unsafe { rig.sim.query_stream(0, rig.stream) }.unwrap() {}
    assert_eq!(rig.take(pool, 32 * MIB, other).unwrap(), block, "all is free by now, and one");
    assert_eq!(rig.usage(pool).0, 32 << 20);
}

#[test]
fn memory_above_the_threshold_goes_back_at_a_synchronisation() {
    let rig = Rig::h100();
    let pool = rig.pool();
    let block = rig.take(pool, 100 * MIB, rig.stream).unwrap();
    assert_eq!(rig.usage(pool), (100 << 20, 100 << 20));
    rig.give(block, rig.stream).unwrap();
    assert_eq!(rig.usage(pool), (100 << 20, 0));
    rig.sync(rig.stream).unwrap();
    assert_eq!(rig.usage(pool), (0, 0));
    assert_eq!(rig.sim.memory_info(0).unwrap().free, 80 << 30);

    rig.keep_all(pool);
    let block = rig.take(pool, 100 * MIB, rig.stream).unwrap();
    rig.give(block, rig.stream).unwrap();
    rig.sync(rig.stream).unwrap();
    assert_eq!(rig.usage(pool), (100 << 20, 0));
    // SAFETY: the pool is live.
    unsafe { rig.sim.trim_pool(0, pool, 0) }.unwrap();
    assert_eq!(rig.usage(pool), (0, 0));
}

#[test]
fn without_memory_a_pool_waits_for_another_stream_instead_of_failing() {
    let rig = Rig::new(Profile::tiny(8 * MIB as u64));
    let (pool, other) = (rig.pool(), rig.second_stream());
    let block = rig.take(pool, 8 * MIB, rig.stream).unwrap();
    rig.busy(rig.stream);
    rig.give(block, rig.stream).unwrap();
    assert_eq!(rig.take(pool, 8 * MIB, other).unwrap(), block);
    // SAFETY: the stream is live.
    assert!(!unsafe { rig.sim.query_stream(0, other) }.unwrap(), "it waits for the free");
    assert!(rig.take(pool, 1, rig.stream).unwrap_err().is_out_of_memory());
    rig.give(block, other).unwrap();
}

#[test]
fn stray_and_double_frees_are_refused() {
    let rig = Rig::h100();
    let pool = rig.pool();
    let block = rig.take(pool, 4096, rig.stream).unwrap();
    let plain = rig.device(4096);
    let inside = NonNull::new(block.as_ptr().wrapping_add(512)).unwrap();
    for bad in [plain, inside] {
        assert_eq!(rig.give(bad, rig.stream).unwrap_err().code(), Some(CudaErrorCode::INVALID_VALUE));
    }
    rig.give(block, rig.stream).unwrap();
    assert_eq!(rig.give(block, rig.stream).unwrap_err().code(), Some(CudaErrorCode::INVALID_VALUE));
    let late = rig.copy(block.as_ptr(), [0_u8; 4].as_ptr(), 4, rig.stream).unwrap_err();
    assert!(late.to_string().contains("was freed"), "{late}");
    assert_eq!(rig.sim.live_allocations().stream_ordered.blocks, 0);
}

#[test]
fn a_destroyed_pool_lives_until_its_last_block() {
    let rig = Rig::h100();
    let pool = rig.pool();
    let block = rig.take(pool, 4096, rig.stream).unwrap();
    // SAFETY: the pool is live. It is used afterwards only in a call that is rejected.
    unsafe { rig.sim.destroy_pool(0, pool) }.unwrap();
    assert_eq!(rig.take(pool, 1, rig.stream).unwrap_err().code(), Some(CudaErrorCode::INVALID_VALUE));
    rig.fill(block, 5, 4096);
    assert_eq!(rig.bytes(block, 4096), [5; 4096]);
    rig.give(block, rig.stream).unwrap();
    rig.sync(rig.stream).unwrap();
    assert_eq!(rig.sim.memory_info(0).unwrap().free, 80 << 30);
    let default = rig.sim.default_pool(0, PoolMemory::Device).unwrap();
    // SAFETY: the pool is live. The call is rejected, because it is the default pool.
    assert!(unsafe { rig.sim.destroy_pool(0, default) }.is_err());
    rig.take(default, 4096, rig.stream).unwrap();
}

#[test]
fn many_blocks_come_and_go_without_growing() {
    let rig = Rig::h100();
    let pool = rig.pool();
    rig.keep_all(pool);
    let mut live = Vec::new();
    for i in 0..20_000_usize {
        live.push(rig.take(pool, 1 + i * 7919 % (64 << 10), rig.stream).unwrap());
        if live.len() > 200 {
            rig.give(live.swap_remove(i * 31 % 200), rig.stream).unwrap();
        }
    }
    let (reserved, used) = rig.usage(pool);
    assert!(used <= reserved && reserved <= 64 << 20, "{used} of {reserved}");
    for block in live {
        rig.give(block, rig.stream).unwrap();
    }
    assert_eq!(rig.usage(pool).1, 0);
}
