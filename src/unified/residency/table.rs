//! [`ResidencyTable`]: the pages that are assumed to be on one device.

use super::span::{LARGE, WORDS, pages, within, words};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError, TryLockError};

/// The pages that are assumed to be on one device. Reads take no lock; writes take one.
#[derive(Debug, Default)]
pub(super) struct ResidencyTable {
    /// Bytes of the device's memory; 0 until [`open`](Self::open).
    total: AtomicUsize,
    /// Whether the driver reported that little memory of the device is free.
    scarce: AtomicBool,
    /// The generation of valid entries. Entries of earlier generations are void, so an increment empties the table.
    generation: AtomicU64,
    /// The number of removals, incremented after each. A large range that was found at one count stays valid while the
    /// count is the same.
    removals: AtomicU64,
    slots: OnceLock<Slots>,
    writing: Mutex<()>,
    /// Held by the thread that queries how much memory is free.
    querying: Mutex<()>,
}

/// The slots of a table. The last bits of the number of a 2 MiB page select its slot.
#[derive(Debug)]
struct Slots {
    keys: Box<[AtomicU64]>,
    bits: Box<[[AtomicU64; WORDS]]>,
    /// Large ranges that were found on the device: hashes of the range and of the number of removals at the time.
    found: [AtomicU64; FOUND],
}

/// The number of large ranges that are remembered.
const FOUND: usize = 64;
/// The bytes of the smallest range that is remembered as a whole.
const WHOLE: usize = 16 << 20;

/// Returns the hash of a range and a number of removals (the finalizer of SplitMix64).
fn hash(addr: u64, bytes: usize, removals: u64) -> u64 {
    let mixed = |z: u64, shift: u32, by: u64| (z ^ (z >> shift)).wrapping_mul(by);
    let seed = addr ^ (bytes as u64).rotate_left(24) ^ removals.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = mixed(mixed(seed, 30, 0xbf58_476d_1ce4_e5b9), 27, 0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The bit of a key that is set if all 4 KiB pages are on the device, so that the bits need not be read.
const FULL: u64 = 1;
/// The difference between the keys of two successive 2 MiB pages.
const NEXT_PAGE: u64 = 2;
/// The bits of a key for the number of a 2 MiB page. That leaves 27 bits for the generation.
const PAGE_BITS: u32 = 36;
/// The most slots of a table, which cover 256 GiB.
const MOST_SLOTS: usize = 1 << 17;

fn key(generation: u64, page: u64) -> u64 {
    // In a key, generations count from 1, so that a slot that was never written matches no key.
    (generation + 1) << (PAGE_BITS + 1) | (page & ((1 << PAGE_BITS) - 1)) << 1
}

impl Slots {
    fn new(total: usize) -> Self {
        let slots = (total / LARGE as usize).next_power_of_two().min(MOST_SLOTS);
        let keys = (0..slots).map(|_| AtomicU64::new(0)).collect();
        let bits = (0..slots).map(|_| Default::default()).collect();
        Self { keys, bits, found: [const { AtomicU64::new(0) }; FOUND] }
    }

    #[inline]
    fn slot(&self, page: u64) -> usize {
        page as usize & (self.keys.len() - 1)
    }

    /// Reports whether the table contains all 4 KiB pages of a range that are in 2 MiB page `page`. The slot must be
    /// that page's.
    fn contains_part(&self, page: u64, addr: u64, bytes: usize) -> bool {
        let bits = &self.bits[self.slot(page)];
        let set = |(word, mask): (usize, u64)| bits[word].load(Ordering::Relaxed) & mask == mask;
        words(within(page, addr, addr + bytes as u64)).all(set)
    }
}

impl ResidencyTable {
    /// Sets the bytes of the device's memory.
    pub(super) fn open(&self, total: usize) {
        self.total.store(total, Ordering::Relaxed);
    }

    /// Reports whether all pages of a range are assumed to be on the device. The range must not be empty.
    #[inline]
    pub(super) fn contains(&self, addr: u64, bytes: usize) -> bool {
        let Some(slots) = self.slots.get() else { return false };
        if bytes < WHOLE {
            return self.contains_each(slots, addr, bytes);
        }
        let hash = hash(addr, bytes, self.removals.load(Ordering::Acquire));
        let found = &slots.found[hash as usize % FOUND];
        if found.load(Ordering::Relaxed) == hash {
            return true;
        }
        let contained = self.contains_each(slots, addr, bytes);
        if contained {
            found.store(hash, Ordering::Relaxed);
        }
        contained
    }

    #[inline]
    fn contains_each(&self, slots: &Slots, addr: u64, bytes: usize) -> bool {
        let Some(last) = addr.checked_add(bytes as u64 - 1) else { return false };
        let mut full = key(self.generation.load(Ordering::Acquire), addr / LARGE) | FULL;
        for page in addr / LARGE..=last / LARGE {
            let found = slots.keys[slots.slot(page)].load(Ordering::Acquire);
            if found != full && (found != full & !FULL || !slots.contains_part(page, addr, bytes)) {
                return false;
            }
            full += NEXT_PAGE;
        }
        true
    }

    /// Inserts the pages of a range.
    pub(super) fn insert(&self, addr: u64, bytes: usize) {
        let slots = self.slots.get_or_init(|| Slots::new(self.total.load(Ordering::Relaxed)));
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let generation = self.generation.load(Ordering::Acquire);
        for (page, within) in pages(addr, bytes) {
            let slot = slots.slot(page);
            let (key, bits) = (key(generation, page), &slots.bits[slot]);
            if slots.keys[slot].load(Ordering::Relaxed) & !FULL != key {
                if slots.keys[slot].swap(0, Ordering::AcqRel) != 0 {
                    self.removals.fetch_add(1, Ordering::AcqRel);
                }
                bits.iter().for_each(|word| word.store(0, Ordering::Relaxed));
            }
            for (word, mask) in words(within) {
                bits[word].fetch_or(mask, Ordering::Relaxed);
            }
            let full = bits.iter().all(|word| word.load(Ordering::Relaxed) == u64::MAX);
            slots.keys[slot].store(if full { key | FULL } else { key }, Ordering::Release);
        }
    }

    /// Removes the pages of a range.
    pub(super) fn remove(&self, addr: u64, bytes: usize) {
        let Some(slots) = self.slots.get() else { return };
        if bytes as u64 / LARGE > slots.keys.len() as u64 {
            return self.empty();
        }
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let generation = self.generation.load(Ordering::Acquire);
        for (page, within) in pages(addr, bytes) {
            let slot = slots.slot(page);
            let key = key(generation, page);
            if slots.keys[slot].load(Ordering::Relaxed) & !FULL == key {
                slots.keys[slot].store(key, Ordering::Release);
                for (word, mask) in words(within) {
                    slots.bits[slot][word].fetch_and(!mask, Ordering::Relaxed);
                }
                self.removals.fetch_add(1, Ordering::AcqRel);
            }
        }
    }

    /// Removes all pages.
    pub(super) fn empty(&self) {
        if self.slots.get().is_some() {
            self.generation.fetch_add(1, Ordering::AcqRel);
            self.removals.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Reports whether no page has to be evicted: `taken` bytes leave more than a sixteenth of the device's memory
    /// free, and the last query of the driver did not contradict that. `taken` counts device memory, and managed memory
    /// that may migrate to the device. Returns `false` before [`open`](Self::open).
    pub(super) fn has_room(&self, taken: usize) -> bool {
        let total = self.total.load(Ordering::Relaxed);
        taken < total - total / 16 && !self.scarce.load(Ordering::Relaxed)
    }

    /// Records how many bytes are free according to `query`, and empties the table if they are too few. Does nothing
    /// while another thread does the same: that thread's answer is as recent, and the driver answers one thread at a
    /// time.
    pub(super) fn update_free_memory(&self, query: impl FnOnce() -> usize) {
        let querying = self.querying.try_lock();
        if matches!(querying, Err(TryLockError::WouldBlock)) {
            return;
        }
        self.set_free_memory(query());
    }

    fn set_free_memory(&self, free: usize) {
        let scarce = free < self.total.load(Ordering::Relaxed) / 16;
        // All threads read the cache line of this word, so it is written only if it changes.
        if self.scarce.load(Ordering::Relaxed) != scarce {
            self.scarce.store(scarce, Ordering::Relaxed);
        }
        if scarce {
            self.empty();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: u64 = 0x7f00_0000_0000;
    const MIB: usize = 1 << 20;

    fn table() -> ResidencyTable {
        let table = ResidencyTable::default();
        table.open(64 * MIB);
        table
    }

    #[test]
    fn a_range_is_contained_only_if_all_of_it_was_inserted() {
        let table = table();
        assert!(!table.contains(AT, 1));
        table.insert(AT + 5000, 5 * MIB);
        assert!(table.contains(AT + 4096, 5 * MIB), "whole pages of 4 KiB are inserted");
        assert!(!table.contains(AT, 5 * MIB));
        table.insert(AT, 4096);
        assert!(table.contains(AT, 5 * MIB));
        table.remove(AT + 2 * MIB as u64, 1);
        assert!(table.contains(AT, 2 * MIB) && table.contains(AT + 2 * MIB as u64 + 4096, 2 * MIB));
        assert!(!table.contains(AT, 5 * MIB));
    }

    #[test]
    fn clearing_removes_all_entries_and_accepts_new_ones() {
        let table = table();
        table.insert(AT, 4 * MIB);
        table.empty();
        assert!(!table.contains(AT, 1));
        table.insert(AT, 4096);
        assert!(table.contains(AT, 4096) && !table.contains(AT, 4097), "nothing old comes back with the new");
        table.insert(AT, 4 * MIB);
        table.remove(AT, 1 << 40);
        assert!(!table.contains(AT + MIB as u64, 1), "more than the table has slots for");
    }

    #[test]
    fn large_ranges_stay_recorded_until_a_removal() {
        let table = table();
        let large = 20 * MIB;
        table.insert(AT, large);
        let removals: [fn(&ResidencyTable); 3] = [
            |table| table.remove(AT + 9 * MIB as u64, 1),
            |table| table.empty(),
            |table| table.insert(AT + 64 * MIB as u64, 1),
        ];
        for remove in removals {
            table.insert(AT, large);
            assert!(table.contains(AT, large) && table.contains(AT, large) && !table.contains(AT, large + 1));
            remove(&table);
            assert!(!table.contains(AT, large));
        }
    }

    #[test]
    fn pages_that_share_a_slot_displace_each_other() {
        let table = table();
        let alias = AT + 64 * MIB as u64;
        table.insert(AT, 2 * MIB);
        table.insert(alias, 4096);
        assert!(table.contains(alias, 4096) && !table.contains(AT, 1));
        assert!(!table.contains(alias + 4096, 1), "bits of the one are not the other's");
        table.remove(AT, 2 * MIB);
        assert!(table.contains(alias, 4096));
    }

    #[test]
    fn one_thread_at_a_time_queries_the_free_memory() {
        let table = table();
        table.insert(AT, 4096);
        table.update_free_memory(|| {
            table.update_free_memory(|| panic!("another query is running"));
            64 * MIB
        });
        assert!(table.contains(AT, 1) && table.has_room(0));
        table.update_free_memory(|| 0);
        assert!(!table.contains(AT, 1) && !table.has_room(0), "the next query is made");
    }

    #[test]
    fn residency_is_assumed_for_less_than_fifteen_sixteenths_of_the_memory() {
        let table = table();
        assert!(table.has_room(59 * MIB) && !table.has_room(60 * MIB));
        assert!(!ResidencyTable::default().has_room(0), "nothing is known of its device");
        table.insert(AT, 4096);
        table.set_free_memory(4 * MIB);
        assert!(table.contains(AT, 1) && table.has_room(0));
        table.set_free_memory(4 * MIB - 1);
        assert!(!table.contains(AT, 1) && !table.has_room(0));
        table.set_free_memory(4 * MIB);
        assert!(table.has_room(0));
    }
}
