//! Allocation and release of device memory, and of the segments of pools.

use super::cost::ns;
use super::handles::Key;
use super::memory::{AllocationKind, Origin};
use super::operation::StreamPoint;
use super::pools::{DriverPool, ReusableBlock};
use super::state::MachineState;
use super::uvm::{BLOCK, NoMemory, PAGE, Processor};
use cumem_driver::{CudaErrorCode, PoolMemory};

/// Bytes that a pool takes from the device at a time, if they are available (observed with the CUDA 12 driver as the
/// reserved size after one small allocation; uncalibrated).
const SEGMENT: u64 = 32 << 20;

impl MachineState {
    /// Allocates device memory for a plain allocation or a segment. Returns its address and serial number.
    pub(super) fn take_device_memory(
        &mut self,
        d: u32,
        bytes: u64,
        kind: AllocationKind,
    ) -> Result<(u64, u64), CudaErrorCode> {
        let none = CudaErrorCode::OUT_OF_MEMORY;
        let counted = self.profile(d).counted(bytes).ok_or(none)?;
        self.take_room(d, counted)?;
        let found = self.memory.allocate(d, bytes, counted, |heaps| heaps.device(d), Origin::Driver, || kind);
        found.ok_or_else(|| {
            self.space.give_plain(d, counted);
            none
        })
    }

    /// Takes `bytes` of the device's memory without an address. Managed memory is evicted if necessary.
    pub(super) fn take_room(&mut self, d: u32, bytes: u64) -> Result<(), CudaErrorCode> {
        let mut work = self.new_work();
        let taken = self.space.take_plain(d, bytes, &mut work);
        // The call that needs the memory waits for the evictions.
        self.now += self.profile(d).device_faults(&work);
        let now = self.now;
        self.record_steps(now, &mut work);
        self.add_statistics(d, Processor::device(d), &work);
        taken.map_err(|NoMemory| CudaErrorCode::OUT_OF_MEMORY)
    }

    /// Allocates a block from a pool. If the block is not free yet, a wait is enqueued on the stream.
    pub(super) fn take_from_pool(&mut self, d: u32, pool: Key, bytes: u64, stream: Key) -> Result<u64, CudaErrorCode> {
        let none = CudaErrorCode::OUT_OF_MEMORY;
        let size = DriverPool::rounded(bytes).ok_or(none)?;
        let mut found = self.reuse(pool, bytes, stream, false)?;
        if found.is_none() {
            let streams = &self.streams;
            let done = |point| streams.passed(point);
            if let Some(pool) = self.pools.get_mut(pool) {
                pool.sweep(done);
            }
            found = self.reuse(pool, bytes, stream, false)?;
        }
        if found.is_none() {
            let exact = size.checked_next_multiple_of(BLOCK).ok_or(none)?;
            let grown = self.grow_pool(d, pool, exact.max(SEGMENT)).or_else(|_| self.grow_pool(d, pool, exact));
            // If the pool cannot grow, a block whose free has not completed on another stream is used, after a wait.
            found = self.reuse(pool, bytes, stream, grown.is_err())?;
        }
        let ReusableBlock { addr, after } = found.ok_or(none)?;
        if let Some(point) = after {
            self.enqueue_wait(stream, point);
        }
        Ok(addr)
    }

    fn reuse(
        &mut self,
        pool: Key,
        bytes: u64,
        stream: Key,
        wait: bool,
    ) -> Result<Option<ReusableBlock>, CudaErrorCode> {
        let streams = &self.streams;
        let done = |point| streams.passed(point);
        let pool = self.pools.get_mut(pool).ok_or(CudaErrorCode::INVALID_VALUE)?;
        Ok(pool.take(bytes, stream, wait, done))
    }

    fn grow_pool(&mut self, d: u32, pool: Key, bytes: u64) -> Result<(), CudaErrorCode> {
        let none = CudaErrorCode::OUT_OF_MEMORY;
        let found = self.pools.get(pool).filter(|pool| pool.may_grow(bytes)).ok_or(none)?;
        let (base, _) = match found.memory {
            PoolMemory::Managed => self.take_managed(d, bytes, Origin::Pool(pool)).ok_or(none)?,
            PoolMemory::Host | PoolMemory::HostNuma(_) => {
                self.take_pinned(d, bytes, PAGE, Origin::Pool(pool)).ok_or(none)?
            }
            _ => self.take_device_memory(d, bytes, AllocationKind::Segment(pool))?,
        };
        self.now += ns(self.profile(d).call_map);
        if let Some(pool) = self.pools.get_mut(pool) {
            pool.grow(base, bytes);
        }
        Ok(())
    }

    /// Frees a block of a pool, for reuse once `point` is reached.
    pub(super) fn give_to_pool(&mut self, key: Key, addr: u64, point: Option<StreamPoint>) {
        let streams = &self.streams;
        let done = |point| streams.passed(point);
        let Some(pool) = self.pools.get_mut(key) else { return };
        let bytes = pool.live(addr).unwrap_or(0);
        pool.give(addr, point, done);
        self.memory.live.count_stream_ordered(-1, bytes);
        self.end_pool_if_empty(key);
    }

    /// Removes a destroyed pool when its last block has been freed.
    pub(super) fn end_pool_if_empty(&mut self, key: Key) {
        if self.pools.get(key).is_some_and(|pool| pool.closing && pool.used == 0) {
            self.shrink_pool(key, 0);
            // Segments whose frees have not completed are released at a later synchronization.
            if self.pools.get(key).is_some_and(|pool| pool.reserved == 0) {
                self.pools.remove(key);
            }
        }
    }

    /// Releases wholly free segments until `keep` bytes are left.
    pub(super) fn shrink_pool(&mut self, key: Key, keep: u64) {
        let streams = &self.streams;
        let done = |point| streams.passed(point);
        let Some(pool) = self.pools.get_mut(key) else { return };
        let d = pool.device;
        for base in pool.release(keep, done) {
            // SAFETY: no block of the segment is allocated, and all frees of its blocks have completed in stream order.
            if let Some(segment) = unsafe { self.memory.free(base) } {
                self.return_memory(&segment);
                self.now += ns(self.profile(d).call_unmap);
            }
        }
    }

    /// Releases memory above the threshold of the device's pools, as a synchronization does.
    pub(super) fn release_pools(&mut self, d: u32) {
        let over =
            |pool: &DriverPool| pool.device == d && pool.dirty && (pool.reserved > pool.threshold || pool.closing);
        let keys: Vec<_> = self.pools.iter().filter(|(_, pool)| over(pool)).map(|(key, _)| key).collect();
        for key in keys {
            let keep = self.pools.get(key).map_or(0, |pool| if pool.closing { 0 } else { pool.threshold });
            self.shrink_pool(key, keep);
            self.end_pool_if_empty(key);
            let settled = self.devices[d as usize].outstanding == 0;
            if let Some(pool) = self.pools.get_mut(key) {
                // Work is outstanding, so frees may not have completed:
                // check the pool again at the next synchronization.
                pool.dirty = !settled;
            }
        }
    }
}
