//! [`Book`]: which pages are assumed to be on one device.

use super::span::{LARGE, WORDS, pages, within, words};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Read without a lock, written behind one.
#[derive(Debug, Default)]
pub(super) struct Book {
    /// Bytes of the device's memory; 0 until it is opened.
    total: AtomicUsize,
    /// The driver said that little of the memory is free.
    scarce: AtomicBool,
    /// Entries of an earlier one are void, which is how a book is emptied at once.
    generation: AtomicU64,
    /// How often something was struck out, counted when it is out: what is found under a number holds while it is the
    /// number.
    strikes: AtomicU64,
    table: OnceLock<Table>,
    writing: Mutex<()>,
}

/// A slot for each 2 MiB page whose number ends in the same bits.
#[derive(Debug)]
struct Table {
    keys: Box<[AtomicU64]>,
    bits: Box<[[AtomicU64; WORDS]]>,
    /// Large ranges that were found to be there: hashes of the range and of the number of strikes at the time.
    found: [AtomicU64; FOUND],
}

const FOUND: usize = 64;
/// From so many bytes on a range is remembered as a whole.
const WHOLE: usize = 16 << 20;

/// One word that stands for a range and a number of strikes (the finaliser of SplitMix64).
fn hash(addr: u64, bytes: usize, strikes: u64) -> u64 {
    let mixed = |z: u64, shift: u32, by: u64| (z ^ (z >> shift)).wrapping_mul(by);
    let seed = addr ^ (bytes as u64).rotate_left(24) ^ strikes.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = mixed(mixed(seed, 30, 0xbf58_476d_1ce4_e5b9), 27, 0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// In a key: all 4 KiB pages are there, so the bits need not be read.
const FULL: u64 = 1;
/// From the key of a 2 MiB page to that of the next.
const NEXT_PAGE: u64 = 2;
/// Bits of a key for the number of a 2 MiB page, which leaves 27 for the generation.
const PAGE_BITS: u32 = 36;
/// Slots that a table has at most, 256 GiB of pages.
const MOST_SLOTS: usize = 1 << 17;

fn key(generation: u64, page: u64) -> u64 {
    // Generations count from 1 here, so that a slot never written matches nothing.
    (generation + 1) << (PAGE_BITS + 1) | (page & ((1 << PAGE_BITS) - 1)) << 1
}

impl Table {
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

    /// Whether the 4 KiB pages of a range that lie in 2 MiB page `page`, which the slot is about, are there.
    fn has_part(&self, page: u64, addr: u64, bytes: usize) -> bool {
        let bits = &self.bits[self.slot(page)];
        let there = |(word, mask): (usize, u64)| bits[word].load(Ordering::Relaxed) & mask == mask;
        words(within(page, addr, addr + bytes as u64)).all(there)
    }
}

impl Book {
    pub(super) fn open(&self, total: usize) {
        self.total.store(total, Ordering::Relaxed);
    }

    /// Whether all pages of a range, which is not empty, are assumed to be there.
    #[inline]
    pub(super) fn has(&self, addr: u64, bytes: usize) -> bool {
        let Some(table) = self.table.get() else { return false };
        if bytes < WHOLE {
            return self.has_each(table, addr, bytes);
        }
        let hash = hash(addr, bytes, self.strikes.load(Ordering::Acquire));
        let found = &table.found[hash as usize % FOUND];
        if found.load(Ordering::Relaxed) == hash {
            return true;
        }
        let there = self.has_each(table, addr, bytes);
        if there {
            found.store(hash, Ordering::Relaxed);
        }
        there
    }

    #[inline]
    fn has_each(&self, table: &Table, addr: u64, bytes: usize) -> bool {
        let Some(last) = addr.checked_add(bytes as u64 - 1) else { return false };
        let mut full = key(self.generation.load(Ordering::Acquire), addr / LARGE) | FULL;
        for page in addr / LARGE..=last / LARGE {
            let found = table.keys[table.slot(page)].load(Ordering::Acquire);
            if found != full && (found != full & !FULL || !table.has_part(page, addr, bytes)) {
                return false;
            }
            full += NEXT_PAGE;
        }
        true
    }

    /// Writes the pages of a range in.
    pub(super) fn write(&self, addr: u64, bytes: usize) {
        let table = self.table.get_or_init(|| Table::new(self.total.load(Ordering::Relaxed)));
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let generation = self.generation.load(Ordering::Acquire);
        for (page, within) in pages(addr, bytes) {
            let slot = table.slot(page);
            let (key, bits) = (key(generation, page), &table.bits[slot]);
            if table.keys[slot].load(Ordering::Relaxed) & !FULL != key {
                if table.keys[slot].swap(0, Ordering::AcqRel) != 0 {
                    self.strikes.fetch_add(1, Ordering::AcqRel);
                }
                bits.iter().for_each(|word| word.store(0, Ordering::Relaxed));
            }
            for (word, mask) in words(within) {
                bits[word].fetch_or(mask, Ordering::Relaxed);
            }
            let full = bits.iter().all(|word| word.load(Ordering::Relaxed) == u64::MAX);
            table.keys[slot].store(if full { key | FULL } else { key }, Ordering::Release);
        }
    }

    /// Strikes the pages of a range out.
    pub(super) fn strike(&self, addr: u64, bytes: usize) {
        let Some(table) = self.table.get() else { return };
        if bytes as u64 / LARGE > table.keys.len() as u64 {
            return self.empty();
        }
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let generation = self.generation.load(Ordering::Acquire);
        for (page, within) in pages(addr, bytes) {
            let slot = table.slot(page);
            let key = key(generation, page);
            if table.keys[slot].load(Ordering::Relaxed) & !FULL == key {
                table.keys[slot].store(key, Ordering::Release);
                for (word, mask) in words(within) {
                    table.bits[slot][word].fetch_and(!mask, Ordering::Relaxed);
                }
                self.strikes.fetch_add(1, Ordering::AcqRel);
            }
        }
    }

    /// Strikes everything out.
    pub(super) fn empty(&self) {
        if self.table.get().is_some() {
            self.generation.fetch_add(1, Ordering::AcqRel);
            self.strikes.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Whether `taken` bytes, of device memory and of managed memory that may come to the device, leave a sixteenth of
    /// the memory free, so that nothing has to be evicted; and the driver did not say otherwise. Not before the book was
    /// opened.
    pub(super) fn has_room(&self, taken: usize) -> bool {
        let total = self.total.load(Ordering::Relaxed);
        taken < total - total / 16 && !self.scarce.load(Ordering::Relaxed)
    }

    /// The driver was asked how many bytes are free.
    pub(super) fn measured(&self, free: usize) {
        let scarce = free < self.total.load(Ordering::Relaxed) / 16;
        self.scarce.store(scarce, Ordering::Relaxed);
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

    fn book() -> Book {
        let book = Book::default();
        book.open(64 * MIB);
        book
    }

    #[test]
    fn a_range_is_there_only_if_all_of_it_was_written() {
        let book = book();
        assert!(!book.has(AT, 1));
        book.write(AT + 5000, 5 * MIB);
        assert!(book.has(AT + 4096, 5 * MIB), "whole pages of 4 KiB are written");
        assert!(!book.has(AT, 5 * MIB));
        book.write(AT, 4096);
        assert!(book.has(AT, 5 * MIB));
        book.strike(AT + 2 * MIB as u64, 1);
        assert!(book.has(AT, 2 * MIB) && book.has(AT + 2 * MIB as u64 + 4096, 2 * MIB));
        assert!(!book.has(AT, 5 * MIB));
    }

    #[test]
    fn emptying_voids_all_and_lets_new_entries_in() {
        let book = book();
        book.write(AT, 4 * MIB);
        book.empty();
        assert!(!book.has(AT, 1));
        book.write(AT, 4096);
        assert!(book.has(AT, 4096) && !book.has(AT, 4097), "nothing old comes back with the new");
        book.write(AT, 4 * MIB);
        book.strike(AT, 1 << 40);
        assert!(!book.has(AT + MIB as u64, 1), "more than the table has");
    }

    #[test]
    fn large_ranges_are_remembered_until_something_is_struck_out() {
        let book = book();
        let large = 20 * MIB;
        book.write(AT, large);
        let strikes: [fn(&Book); 3] = [
            |book| book.strike(AT + 9 * MIB as u64, 1),
            |book| book.empty(),
            |book| book.write(AT + 64 * MIB as u64, 1),
        ];
        for strike in strikes {
            book.write(AT, large);
            assert!(book.has(AT, large) && book.has(AT, large) && !book.has(AT, large + 1));
            strike(&book);
            assert!(!book.has(AT, large));
        }
    }

    #[test]
    fn pages_that_share_a_slot_displace_each_other() {
        let book = book();
        let alias = AT + 64 * MIB as u64;
        book.write(AT, 2 * MIB);
        book.write(alias, 4096);
        assert!(book.has(alias, 4096) && !book.has(AT, 1));
        assert!(!book.has(alias + 4096, 1), "bits of the one are not the other's");
        book.strike(AT, 2 * MIB);
        assert!(book.has(alias, 4096));
    }

    #[test]
    fn room_is_a_sixteenth_short_of_the_memory() {
        let book = book();
        assert!(book.has_room(59 * MIB) && !book.has_room(60 * MIB));
        assert!(!Book::default().has_room(0), "nothing is known of its device");
        book.write(AT, 4096);
        book.measured(4 * MIB);
        assert!(book.has(AT, 1) && book.has_room(0));
        book.measured(4 * MIB - 1);
        assert!(!book.has(AT, 1) && !book.has_room(0));
        book.measured(4 * MIB);
        assert!(book.has_room(0));
    }
}
