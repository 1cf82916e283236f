//! Device memory taken and given back: plain allocations, and the segments of pools.

use super::cost::ns;
use super::handles::Key;
use super::machine::State;
use super::memory::Kind;
use super::pools::{Found, Pool};
use super::streams::Mark;
use super::uvm::{BLOCK, NoMemory, Processor};
use cumem_driver::CudaErrorCode;

/// What a pool takes from the device at a time, where there is so much (observed with the CUDA 12 driver as the
/// reserved size after one small allocation; uncalibrated).
const SEGMENT: u64 = 32 << 20;

impl State {
    /// Device memory for a plain allocation or a segment: address and serial number.
    pub(super) fn take_device_memory(&mut self, d: u32, bytes: u64, kind: Kind) -> Result<(u64, u64), CudaErrorCode> {
        let none = CudaErrorCode::OUT_OF_MEMORY;
        let counted = self.profile(d).counted(bytes).ok_or(none)?;
        self.take_room(d, counted)?;
        let found = self.memory.allocate(d, bytes, counted, |heaps| heaps.device(d), || kind);
        found.ok_or_else(|| {
            self.space.give_plain(d, counted);
            none
        })
    }

    /// So many bytes of the device, without an address; unified memory is evicted for them.
    pub(super) fn take_room(&mut self, d: u32, bytes: u64) -> Result<(), CudaErrorCode> {
        let mut work = self.new_work();
        let taken = self.space.take_plain(d, bytes, &mut work);
        // Evictions hold up the call that needs the memory.
        self.now += self.profile(d).device_faults(&work);
        let now = self.now;
        self.note_steps(now, &mut work);
        self.account(d, Processor::device(d), &work);
        taken.map_err(|NoMemory| CudaErrorCode::OUT_OF_MEMORY)
    }

    /// A block of a pool, and what the stream has to wait for before it uses it.
    pub(super) fn take_from_pool(&mut self, d: u32, pool: Key, bytes: u64, stream: Key) -> Result<u64, CudaErrorCode> {
        let none = CudaErrorCode::OUT_OF_MEMORY;
        let size = Pool::rounded(bytes).ok_or(none)?;
        let mut found = self.reuse(pool, bytes, stream, false)?;
        if found.is_none() {
            let streams = &self.streams;
            let done = |mark: Mark| streams.get(mark.stream).is_none_or(|s| s.completed >= mark.seq);
            if let Some(pool) = self.pools.get_mut(pool) {
                pool.sweep(done);
            }
            found = self.reuse(pool, bytes, stream, false)?;
        }
        if found.is_none() {
            let exact = size.checked_next_multiple_of(BLOCK).ok_or(none)?;
            let grown = self.grow_pool(d, pool, exact.max(SEGMENT)).or_else(|_| self.grow_pool(d, pool, exact));
            // Without memory, a block that another stream has not passed yet will do, after a wait.
            found = self.reuse(pool, bytes, stream, grown.is_err())?;
        }
        let Found { addr, after } = found.ok_or(none)?;
        if let Some(mark) = after {
            self.enqueue_wait(stream, mark);
        }
        Ok(addr)
    }

    fn reuse(&mut self, pool: Key, bytes: u64, stream: Key, wait: bool) -> Result<Option<Found>, CudaErrorCode> {
        let streams = &self.streams;
        let done = |mark: Mark| streams.get(mark.stream).is_none_or(|s| s.completed >= mark.seq);
        let pool = self.pools.get_mut(pool).ok_or(CudaErrorCode::INVALID_VALUE)?;
        Ok(pool.take(bytes, stream, wait, done))
    }

    fn grow_pool(&mut self, d: u32, pool: Key, bytes: u64) -> Result<(), CudaErrorCode> {
        let (base, _) = self.take_device_memory(d, bytes, Kind::Segment(pool))?;
        self.now += ns(self.profile(d).call_map);
        if let Some(pool) = self.pools.get_mut(pool) {
            pool.grow(base, bytes);
        }
        Ok(())
    }

    /// Gives a block back to its pool, from `mark` on.
    pub(super) fn give_to_pool(&mut self, key: Key, addr: u64, mark: Option<Mark>) {
        let streams = &self.streams;
        let done = |mark: Mark| streams.get(mark.stream).is_none_or(|s| s.completed >= mark.seq);
        let Some(pool) = self.pools.get_mut(key) else { return };
        let bytes = pool.live(addr).unwrap_or(0);
        pool.give(addr, mark, done);
        self.memory.live.count_stream_ordered(-1, bytes);
        self.end_pool_if_empty(key);
    }

    /// A pool that was destroyed lives until its last block comes back.
    pub(super) fn end_pool_if_empty(&mut self, key: Key) {
        if self.pools.get(key).is_some_and(|pool| pool.closing && pool.used == 0) {
            self.shrink_pool(key, 0);
            // What other streams have not passed yet goes at a later synchronisation.
            if self.pools.get(key).is_some_and(|pool| pool.reserved == 0) {
                self.pools.remove(key);
            }
        }
    }

    /// Gives whole free segments back until `keep` bytes are left.
    pub(super) fn shrink_pool(&mut self, key: Key, keep: u64) {
        let streams = &self.streams;
        let done = |mark: Mark| streams.get(mark.stream).is_none_or(|s| s.completed >= mark.seq);
        let Some(pool) = self.pools.get_mut(key) else { return };
        let d = pool.device;
        for base in pool.release(keep, done) {
            // SAFETY: no block of the segment is handed out, and the streams have passed their frees.
            if let Some(segment) = unsafe { self.memory.free(base) } {
                self.space.give_plain(d, segment.counted);
                self.now += ns(self.profile(d).call_unmap);
            }
        }
    }

    /// What a synchronisation does to the device's pools: memory above the threshold goes back.
    pub(super) fn release_pools(&mut self, d: u32) {
        let over = |pool: &Pool| pool.device == d && pool.dirty && (pool.reserved > pool.threshold || pool.closing);
        let keys: Vec<_> = self.pools.iter().filter(|(_, pool)| over(pool)).map(|(key, _)| key).collect();
        for key in keys {
            let keep = self.pools.get(key).map_or(0, |pool| if pool.closing { 0 } else { pool.threshold });
            self.shrink_pool(key, keep);
            self.end_pool_if_empty(key);
            let settled = self.devices[d as usize].outstanding == 0;
            if let Some(pool) = self.pools.get_mut(key) {
                // Frees that no stream has passed yet are looked at again.
                pool.dirty = !settled;
            }
        }
    }
}
