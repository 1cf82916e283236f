//! [`Kept`]: released blocks that no pool made, by address.
#![forbid(unsafe_code)]

use crate::AddressError;
use cumem::device::KeptStream;
use cumem::{Block, Stream};
use std::collections::HashMap;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Threads that use different addresses rarely use the same part.
const PARTS: usize = 16;

/// A table in parts, each of which has a lock.
#[derive(Debug, Default)]
pub(super) struct Kept {
    parts: [Mutex<Part>; PARTS],
    /// The number of blocks with recorded uses.
    used: AtomicUsize,
}

#[derive(Debug, Default)]
struct Part {
    blocks: HashMap<u64, Block>,
    /// The streams with recorded uses of the blocks.
    uses: HashMap<u64, Vec<KeptStream>>,
}

impl Kept {
    /// Keeps a block and returns its address. A block of zero bytes is forgotten, because other blocks share its
    /// address, and nothing is lost with it.
    pub(super) fn insert(&self, block: Block) -> NonNull<u8> {
        let address = block.as_non_null();
        if block.size() > 0 {
            self.part(block.addr()).blocks.insert(block.addr(), block);
        }
        address
    }

    pub(super) fn remove(&self, address: NonNull<u8>) -> Option<Block> {
        let addr = address.as_ptr() as u64;
        self.part(addr).blocks.remove(&addr)
    }

    pub(super) fn len(&self) -> usize {
        self.parts.iter().map(|part| part.lock().unwrap_or_else(PoisonError::into_inner).blocks.len()).sum()
    }

    /// Records a use of a block. Returns false if no block starts at the address.
    pub(super) fn record_use(&self, addr: u64, stream: &Stream) -> bool {
        let mut part = self.part(addr);
        if !part.blocks.contains_key(&addr) {
            return false;
        }
        let uses = part.uses.entry(addr).or_default();
        if uses.is_empty() {
            self.used.fetch_add(1, Relaxed);
        }
        if uses.iter().all(|used| used.id() != stream.id()) {
            uses.push(stream.keep());
        }
        true
    }

    /// Reports whether any block has recorded uses. Right for the thread that recorded one, and for each thread that
    /// thread has given the block to.
    #[inline]
    pub(super) fn has_uses(&self) -> bool {
        self.used.load(Relaxed) > 0
    }

    /// Takes the uses of a block that is about to be freed.
    pub(super) fn take_uses(&self, addr: u64) -> Vec<KeptStream> {
        let uses = self.part(addr).uses.remove(&addr);
        if uses.is_some() {
            self.used.fetch_sub(1, Relaxed);
        }
        uses.unwrap_or_default()
    }

    /// Puts the uses of a block back that could not be freed.
    pub(super) fn put_uses(&self, addr: u64, uses: Vec<KeptStream>) {
        if !uses.is_empty() {
            self.part(addr).uses.insert(addr, uses);
            self.used.fetch_add(1, Relaxed);
        }
    }

    /// Returns the error for an address that lies in a kept block.
    pub(super) fn explain(&self, addr: u64) -> Option<AddressError> {
        self.parts.iter().find_map(|part| {
            let part = part.lock().unwrap_or_else(PoisonError::into_inner);
            let around = |block: &&Block| (block.addr()..block.addr() + block.size() as u64).contains(&addr);
            let block = part.blocks.values().find(around)?;
            Some(AddressError::Inner { addr, start: block.addr(), size: block.size() })
        })
    }

    fn part(&self, addr: u64) -> MutexGuard<'_, Part> {
        // Blocks of a leaf are multiples of 256, and often of a power of two, apart.
        let part = addr.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - PARTS.trailing_zeros());
        self.parts[part as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
