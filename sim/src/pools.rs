//! [`Pool`]: a stream-ordered pool (`cuMemAllocFromPoolAsync`), its blocks and what may be reused when.
//!
//! A block freed on a stream is reused at once by the same stream, by others when the stream has passed the
//! free; if memory is short, by others with a wait put before their next work (the three reuse
//! attributes of `CUmemoryPool`, all on as by default).
#![forbid(unsafe_code)]

use super::handles::Key;
use super::streams::Mark;
use std::collections::{BTreeMap, BTreeSet};

/// Blocks are multiples of this.
const GRANULE: u64 = 512;
/// How many free blocks that are large enough are looked at before the pool grows.
const TRIED: usize = 64;

/// A pool of device memory.
#[derive(Debug, Default)]
pub(super) struct Pool {
    pub(super) device: u32,
    /// Bytes that stay at a synchronisation.
    pub(super) threshold: u64,
    /// It ends with its last block.
    pub(super) closing: bool,
    /// Something was freed since the last release.
    pub(super) dirty: bool,
    pub(super) reserved: u64,
    pub(super) used: u64,
    segments: BTreeMap<u64, u64>,
    blocks: BTreeMap<u64, PoolBlock>,
    /// Free blocks by size, then address.
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
    /// Handed out, for so many bytes.
    Live(u64),
    /// Free from there on; at once where nothing stands against it.
    Free(Option<Mark>),
}

/// A block of the pool for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) addr: u64,
    /// What the stream has to wait for first.
    pub(super) after: Option<Mark>,
}

impl Pool {
    pub(super) fn new(device: u32) -> Self {
        Self { device, ..Self::default() }
    }

    pub(super) fn rounded(bytes: u64) -> Option<u64> {
        bytes.checked_next_multiple_of(GRANULE)
    }

    /// A free block that `stream` may use now; with `wait`, also one that it has to wait for.
    pub(super) fn take(&mut self, bytes: u64, stream: Key, wait: bool, done: impl Fn(Mark) -> bool) -> Option<Found> {
        let size = Self::rounded(bytes)?;
        let found = self.free.range((size, 0)..).take(TRIED).find_map(|&(held, addr)| {
            let BlockState::Free(mark) = self.blocks[&addr].state else { return None };
            match mark.filter(|mark| mark.stream != stream && !done(*mark)) {
                None => Some((held, addr, mark, None)),
                Some(pending) => wait.then_some((held, addr, mark, Some(pending))),
            }
        });
        let (held, addr, mark, after) = found?;
        self.free.remove(&(held, addr));
        let segment = self.blocks[&addr].segment;
        if held > size {
            self.blocks.insert(addr + size, PoolBlock { bytes: held - size, segment, state: BlockState::Free(mark) });
            self.free.insert((held - size, addr + size));
        }
        self.blocks.insert(addr, PoolBlock { bytes: size, segment, state: BlockState::Live(bytes) });
        self.used += size;
        Some(Found { addr, after })
    }

    /// The block handed out at `addr`, for how many bytes.
    pub(super) fn live(&self, addr: u64) -> Option<u64> {
        match self.blocks.get(&addr)?.state {
            BlockState::Live(bytes) => Some(bytes),
            BlockState::Free(_) => None,
        }
    }

    /// The block that holds `addr`, and its base.
    pub(super) fn block_around(&self, addr: u64) -> Option<(u64, PoolBlock)> {
        self.blocks.range(..=addr).next_back().map(|(base, block)| (*base, *block))
    }

    /// Takes a block back that may be reused from `mark` on.
    pub(super) fn give(&mut self, addr: u64, mark: Option<Mark>, done: impl Fn(Mark) -> bool) {
        let Some(block) = self.blocks.get_mut(&addr) else { return };
        block.state = BlockState::Free(mark);
        let bytes = block.bytes;
        self.used -= bytes;
        self.dirty = true;
        self.free.insert((bytes, addr));
        let merged = self.merge(addr, &done);
        if let Some((&before, _)) = self.blocks.range(..merged).next_back() {
            self.merge(before, &done);
        }
    }

    /// Joins the block at `addr` with the one after it, if both are free in the same order; its address.
    fn merge(&mut self, addr: u64, done: &impl Fn(Mark) -> bool) -> u64 {
        let first = self.blocks[&addr];
        let next_addr = addr + first.bytes;
        let Some(&next) = self.blocks.get(&next_addr).filter(|next| next.segment == first.segment) else { return addr };
        let (BlockState::Free(a), BlockState::Free(b)) = (first.state, next.state) else { return addr };
        let pending = |mark: Option<Mark>| mark.filter(|mark| !done(*mark));
        let mark = match (pending(a), pending(b)) {
            (None, None) => None,
            (Some(a), Some(b)) if a.stream == b.stream => Some(if a.seq > b.seq { a } else { b }),
            // Joined, the done part would have to wait for the other.
            _ => return addr,
        };
        self.free.remove(&(first.bytes, addr));
        self.free.remove(&(next.bytes, next_addr));
        self.blocks.remove(&next_addr);
        let bytes = first.bytes + next.bytes;
        self.blocks.insert(addr, PoolBlock { bytes, segment: first.segment, state: BlockState::Free(mark) });
        self.free.insert((bytes, addr));
        addr
    }

    /// Joins whatever can be joined by now.
    pub(super) fn sweep(&mut self, done: impl Fn(Mark) -> bool) {
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

    /// Takes out segments that are wholly free, as long as more than `keep` bytes are reserved.
    pub(super) fn release(&mut self, keep: u64, done: impl Fn(Mark) -> bool) -> Vec<u64> {
        self.sweep(&done);
        let mut released = Vec::new();
        for (&base, &bytes) in &self.segments {
            if self.reserved <= keep {
                break;
            }
            let block = self.blocks[&base];
            let free = matches!(block.state, BlockState::Free(mark) if mark.is_none_or(&done));
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
