//! [`Heap`]: its fields, and what its methods return.
#![forbid(unsafe_code)]

use super::bins::{Bins, NIL};
use super::nodes::Nodes;
use std::collections::BTreeMap;
use std::ops::Range;

/// A node that has just become live.
#[derive(Debug, Clone, Copy)]
pub(in crate::pool) struct Placed {
    pub(in crate::pool) node: u32,
    pub(in crate::pool) generation: u16,
    pub(in crate::pool) addr: u64,
}

/// The free memory that a block is in now that it was freed.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::pool) struct Freed {
    pub(in crate::pool) units: Range<u64>,
    /// Nothing else is in its span.
    pub(in crate::pool) alone: bool,
}

/// See the [module](self).
#[derive(Debug)]
pub(in crate::pool) struct Heap {
    pub(super) nodes: Nodes,
    pub(super) bins: Bins,
    /// The node freed last.
    pub(super) last: u32,
    /// It is still free, and marked as live: a mark is not written that would be read at once.
    pub(super) last_is_free: bool,
    pub(super) spans: BTreeMap<u64, u32>,
    /// Live and free.
    pub(super) held_units: u64,
    pub(super) live_units: u64,
}

impl Heap {
    pub(in crate::pool) const fn new() -> Self {
        Self {
            nodes: Nodes::new(),
            bins: Bins::new(),
            last: NIL,
            last_is_free: false,
            spans: BTreeMap::new(),
            held_units: 0,
            live_units: 0,
        }
    }
}
