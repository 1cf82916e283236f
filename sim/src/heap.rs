//! [`Heap`]: addresses for allocations. Small allocations share slabs,
//! because thousands of separate ones would exhaust the mappings that a process may have.

use super::addresses::Addresses;
use super::bytes;
use super::mapping::{self, Mapping};
use std::collections::VecDeque;

/// Largest allocation that shares a slab, in bytes.
const SMALL: usize = 1 << 20;
const SLAB: usize = 16 << 20;
/// From this many bytes on, giving pages back to the operating system is cheaper than overwriting them.
const REFRESH: usize = 64 << 10;
/// Freed ranges that are kept from reuse at a time.
const RETIRED: usize = 64;

/// The addresses of one kind of memory.
#[derive(Debug)]
pub(super) struct Heap {
    /// Bytes of the smallest slot, a power of two. Every address is a multiple of its slot's size or of `large_align`.
    smallest: usize,
    large_align: usize,
    classes: Vec<SlotClass>,
    /// Address and bytes of each freed range that is not reused yet.
    retired: VecDeque<(u64, u64)>,
}

#[derive(Debug, Default)]
struct SlotClass {
    slabs: Vec<Mapping>,
    /// The part of the last slab that was never allocated.
    fresh: std::ops::Range<u64>,
    /// Freed slots. The slot that was freed first is reused first, so that a use after free is more likely to show.
    free: VecDeque<u64>,
}

/// The origin of an allocation's addresses.
#[derive(Debug)]
pub(super) enum AddressSource {
    /// A slot of this size class.
    Slot(usize),
    /// A separate range.
    Own(Mapping),
    /// Memory of the program, which the simulator neither allocates nor frees.
    Program,
}

impl Heap {
    pub(super) fn new(smallest: usize, large_align: usize) -> Self {
        Self { smallest, large_align, classes: Vec::new(), retired: VecDeque::new() }
    }

    /// Allocates addresses for `bytes`. Returns `None` if the operating system has none left.
    pub(super) fn allocate(&mut self, addresses: &mut Addresses, bytes: usize) -> Option<(u64, AddressSource)> {
        if bytes > SMALL {
            let mapping = open(addresses, bytes, self.large_align)?;
            return Some((mapping.base(), AddressSource::Own(mapping)));
        }
        let size = bytes.next_power_of_two().max(self.smallest);
        let class = (size / self.smallest).trailing_zeros() as usize;
        if class >= self.classes.len() {
            self.classes.resize_with(class + 1, SlotClass::default);
        }
        let base = self.classes[class].take(addresses, size as u64)?;
        Some((base, AddressSource::Slot(class)))
    }

    /// Frees addresses.
    ///
    /// # Safety
    ///
    /// The caller must ensure that `base` and `source` came from one call of [`allocate`](Self::allocate),
    /// and that nothing uses the memory.
    pub(super) unsafe fn free(&mut self, addresses: &mut Addresses, base: u64, source: AddressSource) {
        match source {
            AddressSource::Slot(class) => {
                let size = self.smallest << class;
                if size >= REFRESH {
                    // SAFETY: a slot of 64 KiB or more is whole pages of a slab; the caller ensures that
                    // nothing uses it.
                    unsafe { mapping::refresh(base, size) };
                } else {
                    // SAFETY: the slot lies in a slab; the caller ensures that nothing uses it.
                    unsafe { bytes::poison(base, size) };
                }
                self.classes[class].free.push_back(base);
            }
            AddressSource::Program => {}
            AddressSource::Own(mapping) => {
                self.retired.push_back((base, mapping.bytes()));
                drop(mapping);
                if self.retired.len() > RETIRED
                    && let Some((base, bytes)) = self.retired.pop_front()
                {
                    addresses.give(base, bytes);
                }
            }
        }
    }
}

impl SlotClass {
    fn take(&mut self, addresses: &mut Addresses, size: u64) -> Option<u64> {
        if self.fresh.is_empty() {
            if let Some(base) = self.free.pop_front() {
                return Some(base);
            }
            let slab = open(addresses, SLAB, SMALL.max(size as usize))?;
            self.fresh = slab.base()..slab.base() + SLAB as u64;
            self.slabs.push(slab);
        }
        let base = self.fresh.start;
        self.fresh.start += size;
        Some(base)
    }
}

/// Takes fresh addresses and opens pages behind them.
fn open(addresses: &mut Addresses, bytes: usize, align: usize) -> Option<Mapping> {
    let (base, bytes) = addresses.take(bytes, align)?;
    // SAFETY: the addresses were just taken. `Memory` drops `addresses` after its heaps and allocations. The addresses
    // are given back only below, or by `Heap::free` after the mapping is dropped.
    let mapping = unsafe { addresses.open(base, bytes) };
    if mapping.is_none() {
        addresses.give(base, bytes);
    }
    mapping
}
