//! The arguments of driver calls: the stream behind a handle, and the memory in a range.
#![forbid(unsafe_code)]

use super::handles::Key;
use super::memory::{MemoryRef, RangeError};
use super::operation::StreamPoint;
use super::pools::BlockState;
use super::state::MachineState;
use super::streams::StreamState;
use cumem_driver::{CudaErrorCode, DriverError, RawStream};
use std::thread;

impl MachineState {
    /// Returns the stream behind a handle. The per-thread default stream is that of the calling thread.
    pub(super) fn stream(&mut self, d: u32, raw: RawStream, call: &'static str) -> Result<Key, DriverError> {
        match raw {
            RawStream::LEGACY | RawStream(0) => {
                self.legacy_is_usable(d, call)?;
                Ok(self.devices[d as usize].legacy)
            }
            RawStream::PER_THREAD => Ok(self.per_thread(d)),
            RawStream(handle) => {
                let key = Key::from_handle(handle);
                let found = key
                    .filter(|key| self.streams.get(*key).is_some_and(|stream| stream.device == d && !stream.closing));
                found.ok_or_else(|| self.code(d, call, CudaErrorCode::INVALID_HANDLE))
            }
        }
    }

    fn per_thread(&mut self, d: u32) -> Key {
        let thread = thread::current().id();
        let known = self.devices[d as usize].per_thread.iter().find(|(id, _)| *id == thread);
        if let Some((_, key)) = known {
            return *key;
        }
        let key = self.streams.insert(StreamState::new(d, true));
        self.device(d).per_thread.push((thread, key));
        key
    }

    /// Returns the point after all work enqueued on a stream. For the legacy default stream, that includes the work of
    /// all streams that it waits for.
    pub(super) fn end_of_work(&mut self, d: u32, key: Key) -> StreamPoint {
        self.order_with_legacy(d, key);
        StreamPoint { stream: key, seq: self.streams.get(key).map_or(0, |stream| stream.submitted) }
    }

    /// Returns the allocation that holds a range, or `None` for memory that is not the simulator's. In a pool, the
    /// range must lie in one live block.
    pub(super) fn memory_at(
        &self,
        d: u32,
        user: &str,
        addr: u64,
        bytes: u64,
    ) -> Result<Option<MemoryRef>, DriverError> {
        let memory = match self.memory.find(addr, bytes) {
            Ok(memory) => memory,
            Err(RangeError::Unknown) => return Ok(None),
            Err(bad) => return Err(self.range_error(d, user, addr, bytes, bad)),
        };
        let Some(pool) = memory.pool() else { return Ok(Some(memory)) };
        let block = self.pools.get(pool).and_then(|pool| pool.block_around(addr));
        match block {
            Some((base, block)) => match block.state {
                BlockState::Live(live) if addr - base + bytes <= live => Ok(Some(memory)),
                BlockState::Live(live) => {
                    Err(self.range_error(d, user, addr, bytes, RangeError::Crosses { base, bytes: live }))
                }
                BlockState::Free(_) => {
                    Err(self.range_error(d, user, addr, bytes, RangeError::Freed { base, bytes: block.bytes }))
                }
            },
            None => Ok(Some(memory)),
        }
    }

    #[cold]
    pub(super) fn range_error(&self, d: u32, user: &str, addr: u64, bytes: u64, bad: RangeError) -> DriverError {
        let what = match bad {
            RangeError::Unknown => "which are no memory of the device".into(),
            RangeError::Unmapped => "which are reserved and have no memory behind them".into(),
            RangeError::Crosses { base, bytes } => {
                format!("across the end of the allocation of {bytes} bytes at {base:#x}")
            }
            RangeError::Freed { base, bytes } => {
                format!("in the allocation of {bytes} bytes at {base:#x}, which was freed")
            }
        };
        self.simulation(d, format!("{user} uses {bytes} bytes at {addr:#x}, {what}"))
    }

    pub(super) fn not_zero(&self, d: u32, call: &'static str, bytes: u64) -> Result<(), DriverError> {
        if bytes == 0 { Err(self.code(d, call, CudaErrorCode::INVALID_VALUE)) } else { Ok(()) }
    }
}
