//! [`Released`]: the blocks of one heap that were released to their addresses, found by address.
//!
//! The index is an open-addressed hash table with linear probing, in cells of 16 bytes. A removal moves later cells of
//! the same run back, so the table has no deleted cells. The lock of the heap protects the table.
#![forbid(unsafe_code)]

use super::tag::Tag;
use super::units::UNIT;

/// A released block, without what its node records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// In units.
    pub(super) addr: u64,
    /// The requested size, rounded up to units.
    pub(super) units: u32,
    /// Bytes of the last unit that were not requested.
    pub(super) slack: u8,
    pub(super) align_shift: u8,
    pub(super) node: u32,
}

impl Entry {
    /// Returns the node without the mark of the race detector.
    #[inline]
    pub(super) fn plain_node(&self) -> u32 {
        let tag = Tag { slot: 0, slack: 0, generation: 0, node: self.node };
        tag.if_declared().unwrap_or(tag).node
    }

    /// Returns the requested bytes.
    #[inline]
    pub(super) fn size(&self) -> usize {
        self.units as usize * UNIT - usize::from(self.slack)
    }
}

/// An entry in 16 bytes, so that four share a cache line. Zero is a vacant cell, because no block is at address 0.
#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    /// The address, the slack and the alignment.
    key: u64,
    /// The units and the node.
    value: u64,
}

const ALIGN_BITS: u32 = 6;
const ADDR_SHIFT: u32 = ALIGN_BITS + u8::BITS;

impl Cell {
    #[inline]
    fn pack(entry: Entry) -> Self {
        let Entry { addr, units, slack, align_shift, node } = entry;
        let key = addr << ADDR_SHIFT | u64::from(slack) << ALIGN_BITS | u64::from(align_shift);
        Self { key, value: u64::from(units) << u32::BITS | u64::from(node) }
    }

    #[inline]
    fn unpack(self) -> Entry {
        Entry {
            addr: self.addr(),
            units: (self.value >> u32::BITS) as u32,
            slack: (self.key >> ALIGN_BITS) as u8,
            align_shift: (self.key & ((1 << ALIGN_BITS) - 1)) as u8,
            node: self.value as u32,
        }
    }

    #[inline]
    fn addr(self) -> u64 {
        self.key >> ADDR_SHIFT
    }

    #[inline]
    fn is_vacant(self) -> bool {
        self.key == 0
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Released {
    /// A power of two, or none before the first block.
    cells: Vec<Cell>,
    count: usize,
    /// The bits of a hash that do not choose the cell.
    shift: u32,
}

/// Cells of the first table.
const FIRST: usize = 64;

impl Released {
    pub(super) const fn new() -> Self {
        Self { cells: Vec::new(), count: 0, shift: u64::BITS }
    }

    /// Adds an entry. No other entry may have its address.
    #[inline(always)]
    pub(super) fn insert(&mut self, entry: Entry) {
        debug_assert!(entry.addr >> (u64::BITS - ADDR_SHIFT) == 0, "addresses have at most 58 bits");
        if self.count * 4 >= self.cells.len() * 3 {
            self.grow();
        }
        self.count += 1;
        let (at, cell) = (self.home(entry.addr), Cell::pack(entry));
        match self.cells.get_mut(at) {
            Some(home) if home.is_vacant() => *home = cell,
            _ => self.place_behind(at, cell),
        }
    }

    /// Returns the entry of an address.
    pub(super) fn get(&self, addr: u64) -> Option<Entry> {
        self.find(addr).map(|at| self.at(at))
    }

    /// Removes the entry of an address.
    pub(super) fn take(&mut self, addr: u64) -> Option<Entry> {
        let at = self.find(addr)?;
        let entry = self.at(at);
        self.remove(at);
        Some(entry)
    }

    /// Returns the entry in a cell that [`find`](Self::find) returned.
    #[inline(always)]
    pub(super) fn at(&self, at: usize) -> Entry {
        self.cells[at].unpack()
    }

    /// Removes the entry in a cell that [`find`](Self::find) returned.
    #[inline(always)]
    pub(super) fn remove(&mut self, at: usize) {
        self.count -= 1;
        self.cells[at] = Cell::default();
        if !self.cells[self.after(at)].is_vacant() {
            self.close(at);
        }
    }

    /// Returns the cell of an address.
    #[inline(always)]
    pub(super) fn find(&self, addr: u64) -> Option<usize> {
        let at = self.home(addr);
        // Without a first table there is no cell.
        if self.cells.get(at)?.addr() == addr { Some(at) } else { self.find_behind(at, addr) }
    }

    #[inline(never)]
    fn find_behind(&self, home: usize, addr: u64) -> Option<usize> {
        let mut at = home;
        loop {
            let cell = self.cells[at];
            if cell.addr() == addr {
                return Some(at);
            }
            if cell.is_vacant() {
                return None;
            }
            at = self.after(at);
        }
    }

    /// Moves back the cells behind an empty cell that were displaced because the cell was taken.
    #[inline(never)]
    fn close(&mut self, mut hole: usize) {
        let mask = self.cells.len() - 1;
        let mut at = hole;
        loop {
            at = self.after(at);
            let cell = self.cells[at];
            if cell.is_vacant() {
                break;
            }
            let displaced = at.wrapping_sub(self.home(cell.addr())) & mask;
            if displaced >= at.wrapping_sub(hole) & mask {
                self.cells[hole] = cell;
                hole = at;
            }
        }
        self.cells[hole] = Cell::default();
    }

    #[inline(never)]
    fn place_behind(&mut self, home: usize, cell: Cell) {
        let mut at = home;
        while !self.cells[at].is_vacant() {
            at = self.after(at);
        }
        self.cells[at] = cell;
    }

    #[cold]
    fn grow(&mut self) {
        let cells = (self.cells.len() * 2).max(FIRST);
        let old = std::mem::replace(&mut self.cells, vec![Cell::default(); cells]);
        self.shift = u64::BITS - cells.trailing_zeros();
        old.into_iter()
            .filter(|cell| !cell.is_vacant())
            .for_each(|cell| self.place_behind(self.home(cell.addr()), cell));
    }

    /// Returns the cell in which the search for an address begins: the upper bits of a product, because the lower bits of
    /// addresses are often equal.
    #[inline(always)]
    fn home(&self, addr: u64) -> usize {
        (addr.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_shr(self.shift)) as usize
    }

    #[inline]
    fn after(&self, at: usize) -> usize {
        (at + 1) & (self.cells.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn entry(addr: u64) -> Entry {
        Entry {
            addr,
            units: addr as u32 | 1,
            slack: addr as u8,
            align_shift: 63 - (addr % 50) as u8,
            node: !(addr as u32),
        }
    }

    #[test]
    fn a_cell_holds_the_largest_values() {
        let largest = Entry { addr: (1 << 50) - 1, units: u32::MAX, slack: 255, align_shift: 63, node: u32::MAX };
        assert_eq!(Cell::pack(largest).unpack(), largest);
        assert!(!Cell::pack(Entry { addr: 1, units: 0, slack: 0, align_shift: 0, node: 0 }).is_vacant());
    }

    #[test]
    fn behaves_as_a_map() {
        let (mut index, mut model, mut seed) = (Released::new(), HashMap::new(), 1_u64);
        assert_eq!((index.get(1), index.take(1)), (None, None));
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Few addresses, so that runs are long, and many are found.
            let addr = (seed >> 40) % 500 + 1;
            assert_eq!(index.get(addr), model.get(&addr).copied());
            match model.remove(&addr) {
                Some(known) => assert_eq!(index.take(addr), Some(known)),
                None => {
                    assert_eq!(index.take(addr), None);
                    index.insert(entry(addr));
                    model.insert(addr, entry(addr));
                }
            }
            assert_eq!(index.count, model.len());
        }
        assert!(model.len() > 100 && index.cells.len() == 512);
        let taken = model.keys().filter(|&&addr| index.take(addr).is_some()).count();
        assert_eq!((taken, index.count), (model.len(), 0));
        assert!(index.cells.iter().all(|cell| cell.is_vacant()));
    }
}
