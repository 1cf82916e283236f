//! [`Kept`]: released blocks that no pool made, by address.
#![forbid(unsafe_code)]

use crate::AddressError;
use cumem::Block;
use std::collections::HashMap;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Threads that use different addresses rarely use the same part.
const PARTS: usize = 16;

/// A table in parts, each of which has a lock.
#[derive(Debug, Default)]
pub(super) struct Kept([Mutex<HashMap<u64, Block>>; PARTS]);

impl Kept {
    /// Keeps a block and returns its address. A block of zero bytes is forgotten, because other blocks share its
    /// address, and nothing is lost with it.
    pub(super) fn insert(&self, block: Block) -> NonNull<u8> {
        let address = block.as_non_null();
        if block.size() > 0 {
            self.part(block.addr()).insert(block.addr(), block);
        }
        address
    }

    pub(super) fn remove(&self, address: NonNull<u8>) -> Option<Block> {
        let addr = address.as_ptr() as u64;
        self.part(addr).remove(&addr)
    }

    /// Returns the error for an address that lies in a kept block.
    pub(super) fn explain(&self, addr: u64) -> Option<AddressError> {
        self.0.iter().find_map(|part| {
            let part = part.lock().unwrap_or_else(PoisonError::into_inner);
            let around = |block: &&Block| (block.addr()..block.addr() + block.size() as u64).contains(&addr);
            let block = part.values().find(around)?;
            Some(AddressError::Inner { addr, start: block.addr(), size: block.size() })
        })
    }

    fn part(&self, addr: u64) -> MutexGuard<'_, HashMap<u64, Block>> {
        // Blocks of a leaf are multiples of 256, and often of a power of two, apart.
        let part = addr.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - PARTS.trailing_zeros());
        self.0[part as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
