//! [`DriverPool`]: a stream-ordered pool (`cuMemAllocFromPoolAsync`), its blocks, and when they may be reused.
//!
//! The stream that freed a block can reuse it at once. Other streams can reuse it when the free has completed in stream
//! order, unless [`PoolReuse::Opportunistic`] is off. If memory is short, they can reuse it earlier, with a wait inserted
//! before their next work, unless [`PoolReuse::InternalDependencies`] is off. The model keeps no record of the events that
//! order two streams, so [`PoolReuse::FollowEvents`] can be switched and changes nothing.
#![forbid(unsafe_code)]

use super::handles::Key;
use super::operation::StreamPoint;
use crate::live::LiveBlock;
use cumem_driver::{PoolMemory, PoolProperties, PoolReuse};
use std::collections::{BTreeMap, BTreeSet};

/// Block sizes are multiples of this many bytes.
const GRANULE: u64 = 512;
/// Free blocks of sufficient size that are tried before the pool grows.
const TRIED: usize = 64;

/// A pool of one kind of memory.
#[derive(Debug, Default)]
pub(super) struct DriverPool {
    pub(super) device: u32,
    pub(super) memory: PoolMemory,
    /// The most reserved bytes, if they are limited.
    pub(super) maximum: Option<u64>,
    /// The ways of reuse that are off.
    reuse_off: Vec<PoolReuse>,
    /// A default pool of a device, which cannot be destroyed.
    pub(super) is_default: bool,
    /// Reserved bytes that the pool keeps at a synchronization.
    pub(super) threshold: u64,
    /// The pool was destroyed and ends when its last block is freed.
    pub(super) closing: bool,
    /// A block was freed since the last release of segments.
    pub(super) dirty: bool,
    pub(super) reserved: u64,
    pub(super) used: u64,
    segments: BTreeMap<u64, u64>,
    blocks: BTreeMap<u64, PoolBlock>,
    /// Bytes and address of each free block, by size, then address.
    free: BTreeSet<(u64, u64)>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct PoolBlock {
    pub(super) bytes: u64,
    segment: u64,
    pub(super) state: BlockState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BlockState {
    /// Allocated; the value is the requested bytes.
    Live(u64),
    /// Free once the point is reached, or at once if there is none.
    Free(Option<StreamPoint>),
}

/// The pool's block for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ReusableBlock {
    pub(super) addr: u64,
    /// The point that the stream has to wait for before it uses the block.
    pub(super) after: Option<StreamPoint>,
}

impl DriverPool {
    pub(super) fn new(device: u32, properties: &PoolProperties) -> Self {
        let maximum = Some(properties.maximum as u64).filter(|&bytes| bytes > 0);
        Self { device, memory: properties.memory, maximum, ..Self::default() }
    }

    /// Creates a default pool of a device.
    pub(super) fn of_device(device: u32, memory: PoolMemory) -> Self {
        Self { is_default: true, ..Self::new(device, &PoolProperties::new(memory)) }
    }

    pub(super) fn reuses(&self, reuse: PoolReuse) -> bool {
        !self.reuse_off.contains(&reuse)
    }

    pub(super) fn set_reuse(&mut self, reuse: PoolReuse, on: bool) {
        self.reuse_off.retain(|off| *off != reuse);
        self.reuse_off.extend((!on).then_some(reuse));
    }

    /// Reports whether the pool may reserve `bytes` more bytes.
    pub(super) fn may_grow(&self, bytes: u64) -> bool {
        self.maximum.is_none_or(|maximum| self.reserved.saturating_add(bytes) <= maximum)
    }

    pub(super) fn rounded(bytes: u64) -> Option<u64> {
        bytes.checked_next_multiple_of(GRANULE)
    }

    /// Allocates a free block that `stream` may use now. If `wait` is true, also one that `stream` has to wait for.
    pub(super) fn take(
        &mut self,
        bytes: u64,
        stream: Key,
        wait: bool,
        done: impl Fn(StreamPoint) -> bool,
    ) -> Option<ReusableBlock> {
        let size = Self::rounded(bytes)?;
        let wait = wait && self.reuses(PoolReuse::InternalDependencies);
        let opportunistic = self.reuses(PoolReuse::Opportunistic);
        let done = |point| opportunistic && done(point);
        let found = self.free.range((size, 0)..).take(TRIED).find_map(|&(held, addr)| {
            let BlockState::Free(point) = self.blocks[&addr].state else { return None };
            match point.filter(|point| point.stream != stream && !done(*point)) {
                None => Some((held, addr, point, None)),
                Some(pending) => wait.then_some((held, addr, point, Some(pending))),
            }
        });
        let (held, addr, point, after) = found?;
        self.free.remove(&(held, addr));
        let segment = self.blocks[&addr].segment;
        if held > size {
            self.blocks.insert(addr + size, PoolBlock { bytes: held - size, segment, state: BlockState::Free(point) });
            self.free.insert((held - size, addr + size));
        }
        self.blocks.insert(addr, PoolBlock { bytes: size, segment, state: BlockState::Live(bytes) });
        self.used += size;
        Some(ReusableBlock { addr, after })
    }

    /// Returns the live blocks.
    pub(super) fn live_blocks(&self) -> impl Iterator<Item = LiveBlock> + '_ {
        self.blocks.iter().filter_map(|(&addr, block)| match block.state {
            BlockState::Live(bytes) => Some(LiveBlock::stream_ordered(addr, self.device, bytes)),
            BlockState::Free(_) => None,
        })
    }

    /// Returns the requested bytes of the allocated block at `addr`.
    pub(super) fn live(&self, addr: u64) -> Option<u64> {
        match self.blocks.get(&addr)?.state {
            BlockState::Live(bytes) => Some(bytes),
            BlockState::Free(_) => None,
        }
    }

    /// Returns the block that holds `addr`, and its base.
    pub(super) fn block_around(&self, addr: u64) -> Option<(u64, PoolBlock)> {
        self.blocks.range(..=addr).next_back().map(|(base, block)| (*base, *block))
    }

    /// Frees a block that may be reused once `point` is reached.
    pub(super) fn give(&mut self, addr: u64, point: Option<StreamPoint>, done: impl Fn(StreamPoint) -> bool) {
        let Some(block) = self.blocks.get_mut(&addr) else { return };
        block.state = BlockState::Free(point);
        let bytes = block.bytes;
        self.used -= bytes;
        self.dirty = true;
        self.free.insert((bytes, addr));
        let merged = self.merge(addr, &done);
        if let Some((&before, _)) = self.blocks.range(..merged).next_back() {
            self.merge(before, &done);
        }
    }

    /// Joins the block at `addr` with the next one if both are free from the same point on.
    /// Returns the block's address.
    fn merge(&mut self, addr: u64, done: &impl Fn(StreamPoint) -> bool) -> u64 {
        let first = self.blocks[&addr];
        let next_addr = addr + first.bytes;
        let Some(&next) = self.blocks.get(&next_addr).filter(|next| next.segment == first.segment) else { return addr };
        let (BlockState::Free(a), BlockState::Free(b)) = (first.state, next.state) else { return addr };
        let pending = |point: Option<StreamPoint>| point.filter(|point| !done(*point));
        let point = match (pending(a), pending(b)) {
            (None, None) => None,
            (Some(a), Some(b)) if a.stream == b.stream => Some(if a.seq > b.seq { a } else { b }),
            // If these were joined, the part that is free already would have to wait for the other part.
            _ => return addr,
        };
        self.free.remove(&(first.bytes, addr));
        self.free.remove(&(next.bytes, next_addr));
        self.blocks.remove(&next_addr);
        let bytes = first.bytes + next.bytes;
        self.blocks.insert(addr, PoolBlock { bytes, segment: first.segment, state: BlockState::Free(point) });
        self.free.insert((bytes, addr));
        addr
    }

    /// Joins all free blocks that can be joined now.
    pub(super) fn sweep(&mut self, done: impl Fn(StreamPoint) -> bool) {
        let free: Vec<u64> = self.free.iter().map(|(_, addr)| *addr).collect();
        for addr in free.into_iter().collect::<BTreeSet<_>>().into_iter().rev() {
            if self.blocks.contains_key(&addr) {
                self.merge(addr, &done);
            }
        }
    }

    pub(super) fn grow(&mut self, base: u64, bytes: u64) {
        self.segments.insert(base, bytes);
        self.blocks.insert(base, PoolBlock { bytes, segment: base, state: BlockState::Free(None) });
        self.free.insert((bytes, base));
        self.reserved += bytes;
    }

    /// Removes segments that are wholly free, while more than `keep` bytes are reserved. Returns their addresses.
    pub(super) fn release(&mut self, keep: u64, done: impl Fn(StreamPoint) -> bool) -> Vec<u64> {
        self.sweep(&done);
        let mut released = Vec::new();
        for (&base, &bytes) in &self.segments {
            if self.reserved <= keep {
                break;
            }
            let block = self.blocks[&base];
            let free = matches!(block.state, BlockState::Free(point) if point.is_none_or(&done));
            if free && block.bytes == bytes {
                self.reserved -= bytes;
                self.blocks.remove(&base);
                self.free.remove(&(bytes, base));
                released.push(base);
            }
        }
        for base in &released {
            self.segments.remove(base);
        }
        released
    }
}
